//! Copies the C headers of the engine to the folder that VARVE_ENGINE_INCLUDE names.
//!
//! The engine's own build script installs them, wasmtime/conf.h for exactly our features included, and tells
//! only its direct dependents where: hence this file. Without the variable nothing is copied.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn copy_folder(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for item in fs::read_dir(source)? {
        let path = item?.path();
        let copy = target.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &copy)?;
        } else {
            fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=VARVE_ENGINE_INCLUDE");
    let Some(target) = env::var_os("VARVE_ENGINE_INCLUDE") else {
        return Ok(());
    };
    let source = env::var_os("DEP_WASMTIME_C_API_INCLUDE").expect("the engine tells where its headers are");
    copy_folder(&PathBuf::from(source), &PathBuf::from(target))
}
