//! Chooses the kernel object that the agent carries. Not its build: that is `cargo xtask ebpf`'s recipe, which
//! this calls only when asked or when the committed object is stale. It writes below `OUT_DIR` only.
//!
//! `SENSOR_EBPF=auto|build|prebuilt|PATH`, default `auto`: the committed object if it matches the sources, else
//! a build.

#[path = "../sensor-ebpf/recipe.rs"]
mod recipe;

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    println!("cargo::rerun-if-env-changed=SENSOR_EBPF");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts"));
    let root = manifest.parent().expect("the crate lies in the workspace").to_owned();
    for file in recipe::source_files(&root).unwrap_or_default() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let prebuilt = root.join(recipe::PREBUILT_OBJECT);
    println!("cargo::rerun-if-changed={}", prebuilt.display());
    println!("cargo::rerun-if-changed={}", root.join(recipe::PREBUILT_HASH).display());

    let wish = env::var("SENSOR_EBPF").unwrap_or_else(|_| "auto".to_owned());
    let (object, origin) = match wish.as_str() {
        "prebuilt" => (prebuilt, "prebuilt".to_owned()),
        "auto" if recipe::is_prebuilt_current(&root) => (prebuilt, "prebuilt".to_owned()),
        "auto" | "build" => (build(&root, &wish), "built".to_owned()),
        path => (PathBuf::from(path), path.to_owned()),
    };
    let Ok(object) = object.canonicalize() else {
        println!("cargo::error=SENSOR_EBPF={wish}: no kernel object at {}", object.display());
        exit(1);
    };
    if origin != "prebuilt" {
        println!("cargo::warning=SENSOR_EBPF={wish}: using the kernel object {}", object.display());
    }
    println!("cargo::rustc-env=SENSOR_EBPF_OBJECT={}", object.display());
    println!("cargo::rustc-env=SENSOR_EBPF_ORIGIN={origin}");
}

fn build(root: &Path, wish: &str) -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    match recipe::build(root, &out.join("ebpf")) {
        Ok(object) => object,
        Err(error) => {
            println!(
                "cargo::error=SENSOR_EBPF={wish}: {error}; `cargo xtask setup` installs what is missing"
            );
            exit(1);
        }
    }
}
