//! The commands that answer questions without serving machines.
//!
//! | command | question |
//! |---|---|
//! | [`validate`] | what is wrong with these manifests? |
//! | [`explain`] | which Assignment and Profile does a machine get, and why? |
//! | [`diff`] | which machines would boot something else after a change? |
//!
//! Each has `Args` for clap and a `run` that prints the answer and returns the exit code. `explain`
//! and `diff` read a folder ([`manifests`]) or ask the admin port of a running replica
//! ([`admin_client`]). The answers come from `boot` and `review`, the code that answers machines;
//! this crate only loads, formats and prints.

pub mod admin_client;
pub mod console;
pub mod diff;
pub mod explain;
mod load;
pub mod validate;

/// Parses `KEY=VALUE`, the value of `--label` and `--extrinsic`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} has no =; write KEY=VALUE"))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}
