//! Five minutes of torrents that come and go leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use shoal_bench::soak::{self, Plan};
use std::time::Duration;

#[tokio::test]
async fn five_minutes_of_churn_leave_no_memory_descriptors_and_tasks_behind() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::lasting(Duration::from_secs(5 * 60), 1_000);
    let laps = soak::run(folder.path(), plan).await.unwrap();
    soak::check(&laps).unwrap();
}
