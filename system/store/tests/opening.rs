//! Databases of all kinds are opened, or refused and left alone.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use shoal_store::{Database, StoreError};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::fs;

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.db");
    Database::open(&path).await.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let newer = sqlx::raw_sql("PRAGMA user_version = 99");
    newer.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Database::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_up_to_date_is_opened_again_and_a_second_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.db");
    Database::open(&path).await.unwrap().close().await;
    let first = Database::open(&path).await.unwrap();
    assert!(Database::open(&path).await.is_err());
    first.close().await;
    Database::open(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.db");
    fs::write(&path, "no database at all, whatever it is called").unwrap();
    let refused = Database::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
}
