//! How the program is linked.

fn main() {
    // Half a megabyte of the file, and of memory at the start, says where addresses have to be set to where the program was loaded; packed
    // (RELR) it is six kilobytes. The C library has to know the form: glibc from 2.36, musl from 1.2.4; a linker that does not leaves it out.
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    if of("CARGO_CFG_TARGET_OS") == "linux" && of("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
