//! Containers that live on between commands: the life cycle of the OCI runtime specification
//! (`runtime.md`), as `runc` has it.

mod rlimit;

pub use rlimit::rlimit_number;
