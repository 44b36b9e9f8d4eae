//! Which keyspaces there are.

use std::sync::atomic::Ordering;

use crate::api::{Db, Keyspace};
use crate::engine::{CatalogOperation, DEFAULT_KEYSPACE, Request, check_name, encode_options};
use crate::error::{Error, Result};
use crate::options::KeyspaceOptions;
use crate::types::KeyspaceId;

impl Db {
    /// The keyspace of this name.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`], [`Error::Closed`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.shared().engine.check_open()?;
        match self.shared().engine.keyspaces.load().by_name(name) {
            Some(tree) => Ok(Keyspace::new(self.shared().clone(), tree.clone())),
            None => Err(Error::KeyspaceNotFound {
                name: name.to_owned(),
            }),
        }
    }

    /// The names of all keyspaces, sorted; the default one is among them.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.shared().engine.keyspaces.load().names()
    }

    /// Creates a keyspace; it is there after any crash.
    ///
    /// # Errors
    /// [`Error::KeyspaceExists`], [`Error::KeyspaceName`] (1 to 255 bytes, no control characters), and
    /// those of [`Db::write_with`].
    pub fn create_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.create_keyspace_with(name, KeyspaceOptions::default())
    }

    /// Creates a keyspace with options of its own; it is there after any crash.
    ///
    /// # Errors
    /// As [`Db::create_keyspace`], and [`Error::InvalidOption`], [`Error::FeatureMissing`].
    pub fn create_keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        check_name(name)?;
        let engine = &self.shared().engine;
        options.validate(&engine.options.path)?;
        let _catalog = engine.catalog.lock();
        if engine.keyspaces.load().by_name(name).is_some() {
            return Err(Error::KeyspaceExists {
                name: name.to_owned(),
            });
        }
        let id = engine.next_keyspace.fetch_add(1, Ordering::Relaxed);
        let id = KeyspaceId(u32::try_from(id).map_err(|_| Error::KeyspaceName {
            name: name.to_owned(),
            why: "the store has used up its four billion keyspace numbers",
        })?);
        let name_owned = name.to_owned();
        self.write_catalog(&CatalogOperation::Create {
            id,
            name: name_owned,
            options: encode_options(&options),
        })?;
        self.keyspace(name)
    }

    /// The keyspace of this name, created if it is missing.
    ///
    /// # Errors
    /// Those of [`Db::create_keyspace`], except that it exists.
    pub fn keyspace_or_create(&self, name: &str) -> Result<Keyspace> {
        match self.keyspace(name) {
            Err(Error::KeyspaceNotFound { .. }) => match self.create_keyspace(name) {
                Err(Error::KeyspaceExists { .. }) => self.keyspace(name),
                other => other,
            },
            other => other,
        }
    }

    /// Drops a keyspace with all that is in it; it stays gone after any crash. Its space is reclaimed by
    /// the jobs, with a flush of their own, once the last reader has let go.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`], [`Error::KeyspaceName`] for the default keyspace, and those of
    /// [`Db::write_with`].
    pub fn drop_keyspace(&self, name: &str) -> Result<()> {
        if name == DEFAULT_KEYSPACE {
            let why = "the default keyspace can't be dropped";
            return Err(Error::KeyspaceName {
                name: name.to_owned(),
                why,
            });
        }
        let engine = &self.shared().engine;
        let _catalog = engine.catalog.lock();
        let id = match engine.keyspaces.load().by_name(name) {
            Some(tree) => tree.id,
            None => {
                return Err(Error::KeyspaceNotFound {
                    name: name.to_owned(),
                });
            }
        };
        self.write_catalog(&CatalogOperation::Drop { id })?;
        engine.wake_flush();
        Ok(())
    }

    fn write_catalog(&self, operation: &CatalogOperation) -> Result<()> {
        self.shared()
            .engine
            .write(Request::of_catalog(operation))
            .map(drop)
    }
}
