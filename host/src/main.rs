//! The `tidegate` program: parse, run, one error report, exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
