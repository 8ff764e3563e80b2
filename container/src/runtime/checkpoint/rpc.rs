//! What is said to criu and what it answers: the messages of its remote procedure calls, of which only the
//! fields that are used have names here (`images/rpc.proto` of CRIU's source, <https://criu.org/RPC>).

use super::wire::{self, Message, fields};

/// What a request is for, and an answer on (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// What criu does with the cgroups of a checkpoint (`criu_cg_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing: processes stay where the restoring criu is.
    Ignore = 0,
    /// Groups that it has to make get their settings back.
    Soft = 3,
    /// All groups get their settings back.
    Full = 4,
    /// None of the groups may be there.
    Strict = 5,
    /// As criu would have it by itself, which is soft.
    #[default]
    Default = 6,
}

/// Numbers of the fields of `criu_opts`.
pub mod option {
    pub const IMAGES_DIR_FD: u32 = 1;
    pub const PID: u32 = 2;
    pub const LEAVE_RUNNING: u32 = 3;
    pub const EXT_UNIX_SK: u32 = 4;
    pub const TCP_ESTABLISHED: u32 = 5;
    pub const EVASIVE_DEVICES: u32 = 6;
    pub const SHELL_JOB: u32 = 7;
    pub const FILE_LOCKS: u32 = 8;
    pub const LOG_LEVEL: u32 = 9;
    pub const LOG_FILE: u32 = 10;
    pub const PS: u32 = 11;
    pub const NOTIFY_SCRIPTS: u32 = 12;
    pub const ROOT: u32 = 13;
    pub const PARENT_IMG: u32 = 14;
    pub const TRACK_MEM: u32 = 15;
    pub const AUTO_DEDUP: u32 = 16;
    pub const WORK_DIR_FD: u32 = 17;
    pub const LINK_REMAP: u32 = 18;
    pub const EXT_MNT: u32 = 23;
    pub const MANAGE_CGROUPS: u32 = 24;
    pub const CG_ROOT: u32 = 25;
    pub const RST_SIBLING: u32 = 26;
    pub const INHERIT_FD: u32 = 27;
    pub const MANAGE_CGROUPS_MODE: u32 = 34;
    pub const EXTERNAL: u32 = 37;
    pub const EMPTY_NS: u32 = 38;
    pub const JOIN_NS: u32 = 39;
    pub const FREEZE_CGROUP: u32 = 44;
    pub const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub const LAZY_PAGES: u32 = 48;
    pub const ORPHAN_PTS_MASTER: u32 = 50;
    pub const CONFIG_FILE: u32 = 51;
    pub const LSM_PROFILE: u32 = 53;
    pub const LSM_MOUNT_CONTEXT: u32 = 56;
}

/// A request without options.
pub fn request(kind: Kind) -> Message {
    Message::default().number(1, kind as i64)
}

/// A request with its options.
pub fn request_with(kind: Kind, options: &Message) -> Message {
    request(kind).message(2, options)
}

/// The request for what `features` name: memory tracking, lazy pages.
pub fn feature_check(features: [bool; 2]) -> Message {
    let [tracking, lazy] = features;
    let asked = Message::default().flag(1, tracking).flag(2, lazy);
    request(Kind::FeatureCheck).message(5, &asked)
}

/// The answer to a notification.
pub fn heard(is_well: bool) -> Message {
    request(Kind::Notify).number(3, i64::from(is_well))
}

/// Two texts: how the protocol writes most of its small messages.
pub fn pair(key: &[u8], value: &[u8]) -> Message {
    Message::default().bytes(1, key).bytes(2, value)
}

/// What criu says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Which request it is on: [`Kind`] as a number.
    pub kind: i32,
    /// Whether that went well.
    pub is_success: bool,
    /// criu's reason, as `man 3 errno` counts.
    pub errno: i32,
    /// The same in words, if there are.
    pub message: String,
    /// The moment that is told of.
    pub script: String,
    /// The process that it is about.
    pub pid: i32,
    /// Which features there are, of those that were asked for; none when it does not tell.
    pub features: [Option<bool>; 2],
    /// Major and minor number, and the one below.
    pub version: [i32; 3],
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn parse(bytes: &[u8]) -> Result<Self, wire::Error> {
        let mut answer = Self::default();
        for field in fields(bytes) {
            let (number, value) = field?;
            let inner = match value {
                wire::Value::Bytes(bytes) => bytes,
                wire::Value::Number(_) => &[],
            };
            match number {
                1 => answer.kind = value.int(),
                2 => answer.is_success = value.int() != 0,
                5 => {
                    for field in fields(inner) {
                        match field? {
                            (1, script) => answer.script = script.text(),
                            (2, pid) => answer.pid = pid.int(),
                            _ => {}
                        }
                    }
                }
                7 => answer.errno = value.int(),
                8 => {
                    for field in fields(inner) {
                        let (number, value) = field?;
                        if let index @ 0..2 = number.wrapping_sub(1) {
                            answer.features[index as usize] = Some(value.int() != 0);
                        }
                    }
                }
                9 => answer.message = value.text(),
                10 => {
                    for field in fields(inner) {
                        match field? {
                            (1, major) => answer.version[0] = major.int(),
                            (2, minor) => answer.version[1] = minor.int(),
                            (4, below) => answer.version[2] = below.int(),
                            _ => {}
                        }
                    }
                }
                // What newer ones have beside.
                _ => {}
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_understood() {
        let notify = Message::default().bytes(1, b"post-restore").number(2, 77);
        let version = Message::default().number(1, 3).number(2, 17).number(4, 1);
        let features = Message::default().number(1, 1).number(2, 0);
        let bytes = Message::default()
            .number(1, Kind::Notify as i64)
            .number(2, 1)
            .message(5, &notify)
            .number(7, -52)
            .message(8, &features)
            .bytes(9, b"words")
            .message(10, &version)
            .number(99, 5);
        let expected = Answer {
            kind: 6,
            is_success: true,
            errno: -52,
            message: "words".into(),
            script: "post-restore".into(),
            pid: 77,
            features: [Some(true), Some(false)],
            version: [3, 17, 1],
        };
        assert_eq!(Answer::parse(bytes.as_bytes()), Ok(expected));
        let cut = &bytes.as_bytes()[..9];
        assert_eq!(Answer::parse(cut), Err(wire::Error::Short));
    }

    proptest! {
        #[test]
        fn no_answer_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::parse(&bytes);
        }
    }
}
