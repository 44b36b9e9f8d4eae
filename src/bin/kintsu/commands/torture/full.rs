//! A full disk: a small file system of its own, in a mount namespace of its own, which goes with the process.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kintsu::Error;
use serde_json::{Value, json};

use super::load::{Done, Store, options, write_all};
use super::oracle::{Bounds, Broken, Model};
use super::plan::Plan;
use super::round::{Counts, End, Round, Step, expect};
use crate::failure::{Failure, Outcome};
use crate::text;

/// Keys of each thread: more than fit.
const SLOTS: u64 = 20_000;
const SIZE_MIN: u64 = 16 << 20;
const SIZE_MAX: u64 = 32 << 20;

/// Plays a round, in a process that has its own mounts.
pub fn play(round: &mut Round) -> Step {
    let at = round.path("small");
    fs::create_dir(&at).map_err(|error| Failure::file("create", &at, &error))?;
    let size = round.rng.between(SIZE_MIN, SIZE_MAX);
    let seed = round.rng.next_u64();
    let wants_image = round.rng.one_in(2);
    let mut refusals: Vec<String> = Vec::new();
    for (as_root, image) in [(true, true), (true, false), (false, false)] {
        if image && !wants_image {
            continue;
        }
        match in_child(&at, seed, size, as_root, image)? {
            Ok(told) => return hear(round, &told),
            Err(refusal) if refusals.contains(&refusal) => {}
            Err(refusal) => refusals.push(refusal),
        }
    }
    let why = refusals.join("; ");
    let what = format!("a full disk, because no small file system can be mounted: {why}");
    round.skipped.push(what);
    Ok(())
}

/// What the process says, or why there could be none.
fn in_child(
    at: &Path,
    seed: u64,
    size: u64,
    as_root: bool,
    image: bool,
) -> Outcome<Result<Value, String>> {
    let failed = |error: io::Error| Failure::File(format!("could not run this program: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new("unshare");
    if !as_root {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--"])
        .arg(program)
        .arg("torture-child")
        .arg(format!("--seed={seed}"))
        .arg(format!("--slots={SLOTS}"))
        .arg(format!("--fill={size}"))
        .args(image.then_some("--image"))
        .arg("--")
        .arg(at)
        .stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Ok(Err(format!("unshare can't be run: {error}"))),
    };
    let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    Ok(match told {
        Some(told) => match told["unmounted"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(told),
        },
        // It never got to run, or it ended in the midst of its work.
        None if output.stdout.is_empty() && output.status.code() == Some(1) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("unshare failed").to_owned())
        }
        None => {
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!(
                "the process that filled a disk ended with {}: {said}",
                output.status
            );
            Ok(json!({ "broken": "unexpected", "what": what }))
        }
    })
}

/// Takes over what the process has counted and found.
fn hear(round: &mut Round, told: &Value) -> Step {
    round.counts.add(&Counts::of_json(&told["counts"]));
    let what = told["what"].as_str().unwrap_or_default().to_owned();
    match told["broken"].as_str() {
        None => Ok(()),
        Some("lost") => Err(Broken::Lost(what).into()),
        Some("wrong") => Err(Broken::Wrong(what).into()),
        Some("failed") => Err(Failure::File(what).into()),
        Some(_) => Err(Broken::Unexpected(what).into()),
    }
}

/// What the process does: mounts, fills, and says what came of it, as JSON.
pub fn in_namespace(at: &Path, plan: Plan, size: u64, image: bool) -> Outcome {
    let told = match mount(at, size, image) {
        Err(why) => json!({ "unmounted": why }),
        Ok(()) => {
            let mut round = Round::begin(at.join("round"), plan.seed, Default::default())?;
            let outcome = fill(&mut round, plan, size);
            let counts = round.counts.to_json();
            match outcome {
                Ok(()) => json!({ "counts": counts }),
                Err(End::Broken(broken)) => {
                    let (kind, what) = match broken {
                        Broken::Lost(what) => ("lost", what),
                        Broken::Wrong(what) => ("wrong", what),
                        Broken::Unexpected(what) => ("unexpected", what),
                    };
                    json!({ "counts": counts, "broken": kind, "what": what })
                }
                Err(End::Failed(failure)) => {
                    let what = failure.message();
                    json!({ "counts": counts, "broken": "failed", "what": what })
                }
            }
        }
    };
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{told}").and_then(|()| out.flush());
    written.map_err(|error| Failure::write("standard output", &error))
}

/// Mounts a small file system; else why not.
fn mount(at: &Path, size: u64, image: bool) -> Result<(), String> {
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.lines().next().unwrap_or(program).to_owned())
            }
            Err(error) => Err(format!("{program} can't be run: {error}")),
        }
    };
    if !image {
        let size = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(std::ffi::OsStr::new);
        return run("mount", &[&arguments[..], &[at.as_os_str()]].concat());
    }
    let file = image_of(at);
    let made = fs::File::create(&file).and_then(|file| file.set_len(size));
    made.map_err(|error| format!("could not make {}: {error}", file.display()))?;
    let quiet = ["-q", "-F"].map(std::ffi::OsStr::new);
    run("mkfs.ext4", &[&quiet[..], &[file.as_os_str()]].concat())?;
    let by_loop = ["-o", "loop"].map(std::ffi::OsStr::new);
    run(
        "mount",
        &[&by_loop[..], &[file.as_os_str(), at.as_os_str()]].concat(),
    )
}

fn image_of(at: &Path) -> PathBuf {
    at.with_extension("ext4")
}

/// Fills the file system, looks, frees space, and goes on.
fn fill(round: &mut Round, plan: Plan, size: u64) -> Step {
    let ballast = round.path("ballast");
    let zeros = vec![1; usize::try_from(size / 3).unwrap_or_default()];
    fs::write(&ballast, zeros).map_err(|error| Failure::file("write", &ballast, &error))?;
    let path = round.path("store");
    let store = match Store::open(options(&path)) {
        Err(Error::NoSpace { .. }) => {
            let what = format!("{} are too few for a store", text::bytes(size));
            return Err(Failure::File(what).into());
        }
        store => expect("creating a store", store)?,
    };
    fill_store(round, store, plan, &path, &ballast).map_err(|end| match end {
        // Here it is no answer: a full disk only refuses writes, and then there is room.
        End::Failed(Failure::Store(error @ Error::NoSpace { .. })) => End::Broken(
            Broken::Unexpected(format!("of a disk that was full: {error}")),
        ),
        end => end,
    })
}

fn fill_store(round: &mut Round, store: Store, plan: Plan, path: &Path, ballast: &Path) -> Step {
    let done = Done::default();
    let errors = write_all(&store, &plan, &done, &|_, _| true);
    round.counts.disks_full += 1;
    round.counts.acknowledged += done.acknowledged().iter().sum::<u64>();
    if let Some(error) = errors
        .iter()
        .find(|error| !matches!(error, Error::NoSpace { .. }))
    {
        let what = format!("writing to a full disk: {error}");
        return Err(Broken::Unexpected(what).into());
    }
    let base = Model::new(plan);
    let bounds = Bounds {
        low: done.acknowledged(),
        high: done.started(),
    };
    // Full: reads go on, also in a store that is opened with no byte free.
    round.check(&store, &base, &bounds, None)?;
    drop(store);
    let store = expect("opening on a full disk", Store::open(options(path)))?;
    let low = done.process();
    let checked = round.check(&store, &base, &Bounds { low, ..bounds }, None)?;
    // With room again writes go on.
    fs::remove_file(ballast).map_err(|error| Failure::file("remove", ballast, &error))?;
    let mut model = base;
    model.advance(&checked.positions);
    let resumed = round.write_on(&store, &model, 50)?;
    let Store { db, second } = store;
    drop(second);
    expect("closing", db.close())?;
    round.recover(path, &model, &Bounds::exactly(resumed))?;
    Ok(())
}
