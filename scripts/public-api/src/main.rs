//! Compares the public API of both libraries with the lists in `docs/api`; `--renew` writes them.
//!
//! Run from the repository's root. Takes the JSON of rustdoc, whose format changes with Rust: with
//! another version than the list was made with, it says that nothing was compared.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

const LIBRARIES: [&str; 2] = ["kafka-arrow", "datafusion-kafka"];
/// The version of rustdoc's JSON that the `public-api` of Cargo.toml reads.
const FORMAT: u64 = 57;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let renew = env::args().skip(1).any(|a| a == "--renew");
    match run(renew) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("public-api: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the lists are those of the code.
fn run(renew: bool) -> Result<bool> {
    let target = PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    document(&target)?;
    let mut same = true;
    for library in LIBRARIES {
        let json = target
            .join("doc")
            .join(format!("{}.json", library.replace('-', "_")));
        let format = format(&json)?;
        if format != FORMAT {
            println!(
                "public-api: not compared: this rustdoc writes format {format}, the lists are of {FORMAT}"
            );
            return Ok(true);
        }
        let api = public_api::Builder::from_rustdoc_json(&json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()?;
        let list = Path::new("docs/api").join(format!("{library}.txt"));
        if renew {
            fs::create_dir_all("docs/api")?;
            fs::write(&list, format!("{api}"))?;
        } else {
            same &= is_same(&list, &format!("{api}"))?;
        }
    }
    Ok(same)
}

/// Has rustdoc write its JSON, for both libraries with their default features.
fn document(target: &Path) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["doc", "--release", "--config", "scripts/test-profile.toml"])
        .args(["--no-deps", "--quiet", "--target-dir"])
        .arg(target)
        // Unstable options for rustdoc alone: set for Cargo, the variable would compile dependencies again.
        .env("RUSTDOC", "scripts/public-api/rustdoc-json");
    // What `cargo run` says of this program: build scripts watch it, and would compile dependencies again.
    for (name, _) in env::vars_os() {
        let of_this = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if of_this
            .iter()
            .any(|of| name.to_string_lossy().starts_with(of))
        {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("cargo doc: {status}").into());
    }
    Ok(())
}

fn format(json: &Path) -> Result<u64> {
    let text = fs::read(json).map_err(|e| format!("{}: {e}", json.display()))?;
    let json: serde_json::Value = serde_json::from_slice(&text)?;
    json["format_version"]
        .as_u64()
        .ok_or_else(|| "rustdoc's JSON has no format_version".into())
}

/// Prints the lines in which the list and the code differ.
fn is_same(list: &Path, api: &str) -> Result<bool> {
    let listed = fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    let gone: Vec<_> = listed
        .lines()
        .filter(|l| !api.lines().any(|a| a == *l))
        .collect();
    let new: Vec<_> = api
        .lines()
        .filter(|l| !listed.lines().any(|a| a == *l))
        .collect();
    for line in &gone {
        println!("-{line}");
    }
    for line in &new {
        println!("+{line}");
    }
    let same = gone.is_empty() && new.is_empty();
    if !same {
        println!(
            "public-api: {} is not what the code has; where that is meant: make api ARGS=--renew",
            list.display()
        );
    }
    Ok(same)
}
