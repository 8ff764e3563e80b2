//! What each command is for, in the layout of runc's help, which callers look at.

/// Name, arguments, purpose, options.
type Command = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const COMMANDS: [Command; 18] = [
    ("checkpoint", "<container-id>", "turn a running container into files, with criu", CHECKPOINT),
    ("create", "<container-id>", "create a container", CREATE),
    ("delete", "<container-id>", "delete a container and all that it held", "--force, -f --regex"),
    ("events", "<container-id>", "show events such as OOM notifications, and statistics", "--stats --interval <duration>"),
    ("exec", "<container-id> <command> [args...]", "execute a new process in a container", EXEC),
    ("features", "", "show what this runtime can do, as JSON", ""),
    ("kill", "<container-id> [signal]", "send a signal to a container's init (default: SIGTERM)", "--all, -a"),
    ("list", "", "list containers", "--format, -f <table|json> --quiet, -q"),
    ("pause", "<container-id>", "suspend all processes of a container", ""),
    ("ps", "<container-id> [ps options]", "show the processes of a container", "--format, -f <table|json>"),
    ("restore", "<container-id>", "make a container of a checkpoint, with criu", RESTORE),
    ("resume", "<container-id>", "resume all processes of a container", ""),
    ("run", "<container-id>", "create and start a container", RUN),
    ("spec", "", "write a configuration to begin with", "--bundle, -b <path> --rootless"),
    ("start", "<container-id>", "start a container that was created", ""),
    ("state", "<container-id>", "show the state of a container, as JSON", ""),
    ("update", "<container-id>", "change what a container may use", UPDATE),
    ("version", "", "show the version", ""),
];

const CREATE: &str = "--bundle, -b <path> --config, -f <path> --console-socket <path> --pidfd-socket <path> --pid-file <path> --no-pivot --no-new-keyring --preserve-fds <n>";
const RUN: &str = "--bundle, -b <path> --config, -f <path> --console-socket <path> --pidfd-socket <path> --detach, -d --keep --pid-file <path> --no-subreaper --no-pivot --no-new-keyring --preserve-fds <n>";
const EXEC: &str = "--console-socket <path> --pidfd-socket <path> --cwd <path> --env, -e <name=value> --tty, -t --user, -u <uid[:gid]> --additional-gids, -g <gid> --process, -p <path> --detach, -d --pid-file <path> --process-label <label> --apparmor <profile> --no-new-privs --cap, -c <capability> --preserve-fds <n> --cgroup <path> --ignore-paused --no-subreaper";
const CHECKPOINT: &str = "--image-path <path> --work-path <path> --parent-path <path> --leave-running --tcp-established --tcp-skip-in-flight --link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd <n> --page-server <address:port> --file-locks --pre-dump --manage-cgroups-mode <soft|full|strict|ignore> --empty-ns <network> --auto-dedup";
const RESTORE: &str = "--console-socket <path> --image-path <path> --work-path <path> --tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode <soft|full|strict|ignore> --bundle, -b <path> --detach, -d --pid-file <path> --no-subreaper --no-pivot --empty-ns <network> --auto-dedup --lazy-pages --lsm-profile <type:name> --lsm-mount-context <context>";
const UPDATE: &str = "--resources, -r <path> --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpuset-cpus --cpuset-mems --cpu-idle --memory --memory-reservation --memory-swap --kernel-memory-tcp --pids-limit";

/// Help on everything.
pub fn all() -> String {
    let mut text = String::from(
        "NAME:\n   ringside-oci, as runc - Open Container Initiative runtime\n\n\
         USAGE:\n   ringside-oci [global options] command [command options] [arguments...]\n\nCOMMANDS:\n",
    );
    for (name, _, purpose, _) in COMMANDS {
        text += &format!("   {name:<12}{purpose}\n");
    }
    text + "\nGLOBAL OPTIONS:\n   --root <dir> --log <file> --log-format <text|json> --debug --rootless <true|false|auto> --help, -h --version, -v"
}

/// Help on a command; none for one that there is not.
pub fn on(command: &str) -> Option<String> {
    let (name, arguments, purpose, options) = COMMANDS.iter().find(|it| it.0 == command)?;
    let mut text = format!(
        "NAME:\n   ringside-oci, as runc {name} - {purpose}\n\nUSAGE:\n   ringside-oci {name} [command options] {arguments}\n"
    );
    if !options.is_empty() {
        text += "\nOPTIONS:\n";
        for option in options.split(" --") {
            text += &format!("   --{}\n", option.trim_start_matches("--"));
        }
    }
    Some(text)
}
