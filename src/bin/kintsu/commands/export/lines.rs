//! Records to TSV or JSON lines.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use kintsu::Range;
use serde_json::json;

use super::Arguments;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::format::Format;
use crate::progress::Progress;
use crate::text;

/// What has been written.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    records: u64,
    bytes: u64,
}

/// Exports to a file, or to standard output if its name is `-`.
pub fn run(arguments: &Arguments, file: &Path, console: &mut Console) -> Outcome {
    let to_stdout = file == Path::new("-");
    let by_name = if to_stdout && console.json {
        Format::Jsonl
    } else {
        Format::of(file)
    };
    let format = arguments.format.unwrap_or(by_name);
    let db = arguments.store.open_to_read(console)?;
    let range = arguments.range.open(&db)?;
    let mut progress = Progress::new(console, "exported", Some("record"), None);
    if to_stdout {
        return copy(
            range,
            format,
            console.writer(),
            "standard output",
            &mut progress,
        )
        .map(drop);
    }
    let target = Target::create(file, arguments.overwrite)?;
    let written = target.fill(|out, name| copy(range, format, out, name, &mut progress))?;
    let time = progress.elapsed();
    progress.finish();
    if console.json {
        return console.value(&json!({
            "records": written.records,
            "bytes": written.bytes,
            "seconds": time.as_secs_f64(),
        }));
    }
    writeln!(
        console,
        "exported {} ({}) in {}, {}",
        text::plural(written.records, "record"),
        text::bytes(written.bytes),
        text::duration(time),
        text::rate(written.bytes, time)
    )
}

fn copy(
    mut range: Range,
    format: Format,
    out: &mut dyn Write,
    name: &str,
    progress: &mut Progress,
) -> Outcome<Written> {
    let mut written = Written::default();
    let mut line = String::new();
    while let Some((key, value)) = range.next_ref()? {
        line.clear();
        format.write(key, &value, &mut line);
        out.write_all(line.as_bytes())
            .map_err(|error| Failure::write(name, &error))?;
        written.records += 1;
        written.bytes += line.len() as u64;
        progress.tell_if_due(written.records, written.bytes);
    }
    Ok(written)
}

/// A file that appears under its name only when it is whole and on disk.
struct Target {
    file: File,
    path: PathBuf,
    /// The name it has until then; none for a pipe or a device, which is written as it is.
    temporary: Option<PathBuf>,
}

impl Target {
    fn create(path: &Path, overwrite: bool) -> Outcome<Self> {
        let failed = |error: std::io::Error| Failure::file("create", path, &error);
        let path = path.to_owned();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let what = format!("{} is a folder; export to it with --files", path.display());
                return Err(Failure::Usage(what));
            }
            Ok(metadata) if !metadata.is_file() => {
                let file = File::options().write(true).open(&path).map_err(failed)?;
                return Ok(Self {
                    file,
                    path,
                    temporary: None,
                });
            }
            Ok(_) if !overwrite => {
                let what = format!(
                    "{} is there already; --overwrite replaces it",
                    path.display()
                );
                return Err(Failure::Usage(what));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut temporary = path.clone().into_os_string();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = File::create_new(&temporary)
            .map_err(|error| Failure::file("create", &temporary, &error))?;
        Ok(Self {
            file,
            path,
            temporary: Some(temporary),
        })
    }

    /// Has `write` fill the file, then publishes it; removes it if that fails.
    fn fill(
        self,
        write: impl FnOnce(&mut dyn Write, &str) -> Outcome<Written>,
    ) -> Outcome<Written> {
        let filled = self.try_fill(write);
        if let (Err(_), Some(temporary)) = (&filled, &self.temporary) {
            // The failure itself is what the user must know.
            let _ = fs::remove_file(temporary);
        }
        filled
    }

    fn try_fill(
        &self,
        write: impl FnOnce(&mut dyn Write, &str) -> Outcome<Written>,
    ) -> Outcome<Written> {
        let name = self.path.display().to_string();
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        let written = write(&mut out, &name)?;
        let failed = |error: std::io::Error| Failure::write(&name, &error);
        out.flush().map_err(failed)?;
        if let Some(temporary) = &self.temporary {
            self.file.sync_all().map_err(failed)?;
            fs::rename(temporary, &self.path).map_err(failed)?;
            let folder = self
                .path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        Ok(written)
    }
}
