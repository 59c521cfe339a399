//! What the owner of a node has set: settings, carriers of rules, and lists.
//!
//! Invariant: each call is one transaction: all of it is stored or nothing.

use crate::options::{RulesText, from_text, to_text};
use crate::{Database, StoreError};
use shoal_session::rules::Rules;
use sqlx::Row;
use std::collections::BTreeMap;

/// What carries rules besides torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// The session, whose name is empty.
    Session,
    /// A category.
    Category,
    /// A tag.
    Tag,
}

impl Carrier {
    const fn name(self) -> &'static str {
        match self {
            Carrier::Session => "session",
            Carrier::Category => "category",
            Carrier::Tag => "tag",
        }
    }
}

impl Database {
    /// What was set, by key.
    ///
    /// # Errors
    /// The database fails.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT key, value FROM setting");
        let rows = rows.fetch_all(&self.pool).await?;
        let setting = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(setting).collect()
    }

    /// Sets some, and forgets those without a value.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set(&self, settings: &[(String, Option<String>)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for (key, value) in settings {
            let query = match value {
                Some(value) => {
                    let put = "INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)";
                    sqlx::query(put).bind(key).bind(value)
                }
                None => sqlx::query("DELETE FROM setting WHERE key = ?").bind(key),
            };
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// All carriers of a kind, by name.
    ///
    /// # Errors
    /// The database fails, or holds what it should not.
    pub async fn carriers(&self, kind: Carrier) -> Result<BTreeMap<String, Rules>, StoreError> {
        let rows = sqlx::query("SELECT name, rules FROM carrier WHERE kind = ?").bind(kind.name());
        let mut carriers = BTreeMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            let RulesText(rules) = from_text(row.try_get(1)?)?;
            carriers.insert(row.try_get(0)?, rules);
        }
        Ok(carriers)
    }

    /// Remembers the rules of one, or forgets it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_carrier(
        &self,
        kind: Carrier,
        name: &str,
        rules: Option<&Rules>,
    ) -> Result<(), StoreError> {
        let text = rules.map(|rules| to_text(&RulesText(rules.clone())));
        let query = match text.transpose()? {
            Some(text) => {
                let put = "INSERT OR REPLACE INTO carrier (kind, name, rules) VALUES (?, ?, ?)";
                sqlx::query(put).bind(kind.name()).bind(name).bind(text)
            }
            None => {
                let delete = "DELETE FROM carrier WHERE kind = ? AND name = ?";
                sqlx::query(delete).bind(kind.name()).bind(name)
            }
        };
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// A list of the owner's, by name; each value is a JSON object of whoever keeps the list.
    ///
    /// # Errors
    /// The database fails.
    pub async fn entries(&self, kind: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT name, value FROM entry WHERE kind = ?").bind(kind);
        let rows = rows.fetch_all(&self.pool).await?;
        let entry = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(entry).collect()
    }

    /// Remembers an entry of a list, or forgets it.
    ///
    /// # Errors
    /// The database fails, or the value is no JSON.
    pub async fn set_entry(
        &self,
        kind: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), StoreError> {
        let query = match value {
            Some(value) => {
                let put = "INSERT OR REPLACE INTO entry (kind, name, value) VALUES (?, ?, ?)";
                sqlx::query(put).bind(kind).bind(name).bind(value)
            }
            None => {
                let delete = "DELETE FROM entry WHERE kind = ? AND name = ?";
                sqlx::query(delete).bind(kind).bind(name)
            }
        };
        query.execute(&self.pool).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_session::rules::Told;

    #[tokio::test]
    async fn what_was_set_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.db");
        let database = Database::open(&path).await.unwrap();
        let set = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let both = [set("a", Some("1")), set("b", Some("2"))];
        database.set(&both).await.unwrap();
        let again = [set("a", Some("3")), set("b", None)];
        database.set(&again).await.unwrap();
        let rules = Rules {
            up_bytes_per_s: Told::Some(7),
            ..Rules::default()
        };
        let (tag, category) = (Carrier::Tag, Carrier::Category);
        database.set_carrier(tag, "x", Some(&rules)).await.unwrap();
        let films = Rules::default();
        database
            .set_carrier(category, "x", Some(&films))
            .await
            .unwrap();
        database
            .set_carrier(category, "y", Some(&rules))
            .await
            .unwrap();
        database.set_carrier(category, "y", None).await.unwrap();
        database
            .set_entry("watch", "/in", Some("{}"))
            .await
            .unwrap();
        assert!(
            database
                .set_entry("watch", "/out", Some("no"))
                .await
                .is_err()
        );
        database.close().await;

        let database = Database::open(&path).await.unwrap();
        let settings = BTreeMap::from([("a".to_owned(), "3".to_owned())]);
        assert_eq!(database.settings().await.unwrap(), settings);
        let tags = BTreeMap::from([("x".to_owned(), rules)]);
        assert_eq!(database.carriers(tag).await.unwrap(), tags);
        let categories = BTreeMap::from([("x".to_owned(), films)]);
        assert_eq!(database.carriers(category).await.unwrap(), categories);
        let watched = BTreeMap::from([("/in".to_owned(), "{}".to_owned())]);
        assert_eq!(database.entries("watch").await.unwrap(), watched);
        assert!(database.entries("hook").await.unwrap().is_empty());
    }
}
