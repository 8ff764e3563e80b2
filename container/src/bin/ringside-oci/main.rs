//! A container runtime that takes `runc`'s place: the same commands, options, exit codes and words.

mod arguments;
mod commands;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (global, rest) = match arguments::global(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
    };
    match commands::run(&global, rest) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            global.log("error", &error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}
