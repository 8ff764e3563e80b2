//! A container runtime that takes `runc`'s place: the same commands, options, exit codes and words.

#![cfg_attr(not(test), no_main)]

mod arguments;
mod commands;
mod help;
mod journal;
#[cfg(not(test))]
mod sys;

/// What `sys` runs as the program.
fn run_command_line() -> u8 {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (global, rest) = match arguments::global(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("error: {error}");
            return 1;
        }
    };
    // For as long as the process.
    let global: &'static arguments::Global = Box::leak(Box::new(global));
    global.hear_warnings();
    match commands::run(global, rest) {
        Ok(code) => code,
        Err(error) => {
            let told = error.told(rest.first().map_or("", String::as_str));
            global.fail(&told, error.line_of_runc().as_deref());
            error.exit_code()
        }
    }
}

/// Unit tests have an entry of their own, and a program whose parts are all in use.
#[cfg(test)]
fn main() {
    run_command_line();
}
