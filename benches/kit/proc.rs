//! Servers as processes: started on a CPU of their own, watched through /proc, ended with everything they started.
//!
//! Each is the head of a session of its own, and all processes of that session count as the server: some servers are several.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Server {
    child: Child,
    session: u32,
}

/// CPU time used, nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In all, by the scheduler's own count.
    pub nanos: f64,
    /// The share of it in user space, as the timer ticks saw it.
    pub user_share: f64,
    /// Ticks behind that share.
    ticks: (u64, u64),
}

impl Cpu {
    /// What was used since an earlier look.
    pub fn since(self, before: Cpu) -> Cpu {
        let ticks = (
            self.ticks.0.saturating_sub(before.ticks.0),
            self.ticks.1.saturating_sub(before.ticks.1),
        );
        Cpu {
            nanos: self.nanos - before.nanos,
            user_share: ticks.0 as f64 / (ticks.0 + ticks.1).max(1) as f64,
            ticks,
        }
    }
}

impl Server {
    /// Starts a command in the foreground, on one CPU where asked; its output goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &[String], cpu: Option<usize>, log: &Path) -> std::io::Result<Server> {
        let log = fs::File::create(log)?;
        let mut words: Vec<String> = vec!["setsid".into()];
        if find("setpriv").is_some() {
            // A bench that is killed takes its servers along; what it was started under (a lock, say) must not live on in them.
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        }
        if let Some(cpu) = cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string()]);
        }
        words.extend_from_slice(command);
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // setsid makes the process that it is in the head of a session, and becomes the command.
        let session = child.id();
        Ok(Server { child, session })
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All its processes.
    pub fn members(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| stat(*pid).and_then(|fields| fields.get(3)?.parse::<u32>().ok()) == Some(self.session))
            .collect()
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for pid in self.members() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let words = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                cpu.nanos += words.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0);
            }
            if let Some(fields) = stat(pid) {
                let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse().ok()).unwrap_or(0u64);
                cpu.ticks = (cpu.ticks.0 + ticks(11), cpu.ticks.1 + ticks(12));
            }
        }
        cpu
    }

    /// Memory, KiB: the proportional set size, so that pages shared by its processes count once.
    pub fn memory_kib(&self) -> f64 {
        self.members().iter().map(|pid| rollup(*pid, "Pss:")).sum()
    }

    /// Memory that is its alone: without the programs' own pages, which servers of one kind share.
    pub fn private_kib(&self) -> f64 {
        self.members().iter().map(|pid| rollup(*pid, "Pss_Anon:")).sum()
    }

    /// Ends it and waits.
    pub fn stop(&mut self) {
        for (signal, patience) in [("-TERM", Duration::from_secs(5)), ("-KILL", Duration::from_secs(5))] {
            let members = self.members();
            if members.is_empty() {
                break;
            }
            let pids = members.iter().map(ToString::to_string);
            let _ = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
            let deadline = Instant::now() + patience;
            while !self.members().is_empty() && Instant::now() < deadline {
                let _ = self.child.try_wait();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The fields of /proc/PID/stat from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<String> = fields.split_whitespace().map(str::to_owned).collect();
    // A dead process that nobody has waited for is no member of anything.
    (fields.first().map(String::as_str) != Some("Z")).then_some(fields)
}

/// A line of /proc/PID/smaps_rollup, KiB.
fn rollup(pid: u32, key: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// CPU time of this process and of the programs that it ran and waited for, seconds.
pub fn own_seconds() -> f64 {
    let fields = stat(std::process::id()).unwrap_or_default();
    let ticks = fields.iter().skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// CPU time of the whole machine, seconds, time stolen by others included.
pub fn machine_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum::<f64>() / 100.0
}

/// Waits until other programs are quiet, at most for a while.
pub fn wait_quiet(patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let before = machine_seconds();
        std::thread::sleep(Duration::from_millis(250));
        if machine_seconds() - before <= 0.02 || Instant::now() > deadline {
            return;
        }
    }
}

/// The CPU of the servers.
pub const SERVER_CPU: usize = 0;

/// The CPU of the generator: another one than the server's, where there is one. To be asked before anything is pinned.
pub fn generator_cpu() -> usize {
    usize::from(std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1))
}

/// Where a program is, looked for where Debian keeps servers too.
pub fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    folders
        .map(|folder| Path::new(folder).join(program))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}
