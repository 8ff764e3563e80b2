//! container

pub mod cgroup;
pub mod survey;
