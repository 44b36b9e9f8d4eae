//! `kintsu demo`: the main job on real input.
//!
//! Real files are loaded; a child process that writes is killed again and again, and everything that
//! it had acknowledged is looked for; then one byte is changed in copies of the store, to show what
//! is reported.

mod damage;
mod folder;
mod input;
mod kill;
mod records;
mod screen;
pub mod writer;

use std::path::{Path, PathBuf};

use clap::Args;
use kintsu::{Db, Options};
use serde_json::json;

use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};
use crate::text;

use folder::Folder;
use input::Files;
use screen::Screen;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Keep the store in this folder, which must be missing or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// How long to write before each kill, all kills together
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// How often to kill the writer
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Where to take real files from [default: Rust's documentation or sources, or what else is here]
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// At most so many megabytes of real files
    #[arg(long, default_value_t = 200)]
    megabytes: u64,
}

/// Runs it all; fine only if everything held.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    if !(0.0..=3600.0).contains(&arguments.seconds) {
        return Err(Failure::Usage("--seconds goes from 0 to 3600".into()));
    }
    let folder = Folder::create(arguments.keep.as_deref())?;
    let told = tell(arguments, &folder, console);
    // What went wrong can be looked at; a reader who has gone away is nothing wrong.
    let went_well = matches!(told, Ok(true) | Err(Failure::ClosedPipe));
    folder.finish(went_well, console);
    if told? {
        Ok(())
    } else {
        Err(Failure::Told(exit::OTHER))
    }
}

/// The whole story. Whether everything held.
fn tell(arguments: &Arguments, folder: &Folder, console: &mut Console) -> Outcome<bool> {
    let store = folder.path().join("store");
    let mut screen = Screen::new(console);
    screen.title("Kintsu: what it keeps on the bad day")?;
    screen.line(&format!("the store is in {}", store.display()))?;

    let mut files = load(arguments, &store, &mut screen)?;
    let kills = kill::run(arguments, folder, &store, &mut files, &mut screen)?;
    let damage = damage::run(folder, &store, &files, &kills, &mut screen)?;

    let held = files.held() && kills.held() && damage.held();
    summary(&mut screen, &kills, held)?;
    if screen.console.json {
        screen.console.value(&json!({
            "held": held,
            "loaded": files.to_json(),
            "kills": kills.to_json(),
            "damage": damage.to_json(),
        }))?;
    }
    Ok(held)
}

/// Loads real files into a new store, and reads them back from a reopened one.
fn load(arguments: &Arguments, store: &Path, screen: &mut Screen<'_>) -> Outcome<Files> {
    screen.step("Load real files")?;
    let mut files = Files::find(
        arguments.input.as_deref(),
        arguments.megabytes * 1_000_000,
        store,
    )?;
    screen.line(&format!("from {}", files.root.display()))?;
    let db = Options::new(store).open()?;
    files.load(&db, screen)?;
    db.close()?;
    let (bytes, time) = (files.bytes, files.load_time);
    screen.good(&format!(
        "{} ({}) read and loaded in {}: {}, all on disk",
        text::plural(files.count(), "file"),
        text::bytes(bytes),
        text::duration(time),
        text::rate(bytes, time),
    ))?;
    let db: Db = Options::new(store).read_only(true).open()?;
    files.compare(&db, screen)?;
    Ok(files)
}

fn summary(screen: &mut Screen<'_>, kills: &kill::Kills, held: bool) -> Outcome {
    screen.step("Summary")?;
    if !held {
        return screen.bad("something did not hold; see the lines marked ✗ above");
    }
    screen.good(&format!(
        "{} acknowledged before {}: every one found, none of them wrong",
        text::plural(kills.acknowledged(), "write"),
        text::plural(kills.count(), "kill"),
    ))?;
    screen.good("each damaged byte named with its file and offset, and mended where there is parity; nothing wrong was served")
}
