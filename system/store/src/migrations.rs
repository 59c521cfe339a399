//! From an empty file, or an older version, to the schema of this program.
//!
//! Invariant: a migration that has been released is never changed; each runs once, all of it or nothing.

use crate::StoreError;
use sqlx::{Row, SqlitePool};
use std::path::Path;

/// The newest version that this program knows: how many migrations there are.
const KNOWN: u32 = 2;

/// In their order.
const MIGRATIONS: [&str; KNOWN as usize] = [
    include_str!("../migrations/0001_torrents.sql"),
    include_str!("../migrations/0002_told.sql"),
];

pub(super) async fn run(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open {
        path: path.to_path_buf(),
        source,
    };
    let version = sqlx::query("PRAGMA user_version").fetch_one(pool).await;
    let version: u32 = version.map_err(failed)?.get(0);
    if version > KNOWN {
        return Err(StoreError::Newer {
            path: path.to_path_buf(),
            found: version,
            known: KNOWN,
        });
    }
    for (number, sql) in (1u32..).zip(MIGRATIONS).skip(version as usize) {
        let mut transaction = pool.begin().await.map_err(failed)?;
        sqlx::raw_sql(sql)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        // A pragma takes no parameters, and this number comes from the line above.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "PRAGMA user_version = {number}"
        )))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
    }
    Ok(())
}
