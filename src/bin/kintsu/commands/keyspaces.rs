//! `kintsu keyspaces STORE [create NAME | drop NAME]`

use clap::{Args, Subcommand};
use serde_json::json;

use crate::console::Console;
use crate::escape::escape;
use crate::failure::Outcome;
use crate::store::StoreArguments;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create a keyspace in a store that exists
    Create {
        /// Its name
        name: String,
    },
    /// Drop a keyspace with everything in it
    Drop {
        /// Its name
        name: String,
    },
}

/// Lists the names, one a line, or does what is asked for.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let Some(action) = &arguments.action else {
        let names = arguments.store.open_to_read(console)?.keyspaces();
        if console.json {
            return console.value(&json!({ "keyspaces": names }));
        }
        return names
            .iter()
            .try_for_each(|name| writeln!(console, "{}", escape(name.as_bytes())));
    };
    let db = arguments.store.open_for_one_write(console, false)?;
    let told = match action {
        Action::Create { name } => {
            db.create_keyspace(name)?;
            json!({ "created": name })
        }
        Action::Drop { name } => {
            db.drop_keyspace(name)?;
            json!({ "dropped": name })
        }
    };
    db.close()?;
    if console.json {
        console.value(&told)
    } else {
        Ok(())
    }
}
