//! Checks of the machine: room and speed of the disk, the UDP port, the addresses.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use templar_home::Home;

use super::finding::{DoctorFinding, error_chain, size};

/// Free bytes below which a window's deltas may not fit. Below a quarter of it nothing fits.
const LITTLE_SPACE: u64 = 1 << 30;

/// The length of the file that is written to measure the speed of the disk, in bytes.
const WRITTEN: usize = 8 << 20;

/// Bytes per second, written and synced, below which training waits for the disk.
const SLOW: f64 = 8e6;

pub(super) fn look_at_disk(home: &Home, say: &mut impl FnMut(DoctorFinding)) {
    match rustix::fs::statvfs(home.root()) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} free for {}", size(free), home.root().display());
            let hint = "free some space; a node stops with a message when there is none, and loses nothing";
            say(match free {
                free if free < LITTLE_SPACE / 4 => DoctorFinding::fail("disk", text, hint),
                free if free < LITTLE_SPACE => DoctorFinding::warn("disk", text, hint),
                _ => DoctorFinding::ok("disk", text),
            });
        }
        Err(error) => {
            say(DoctorFinding::warn("disk", format!("its free space cannot be read: {error}"), "look with `df`"))
        }
    }
    match write_speed(home.root()) {
        Ok(speed) => {
            let text = format!("{:.0} MB/s written and synced", speed / 1e6);
            let hint = "a faster disk, or --home on another one: every entry is synced before it is sent";
            say(if speed < SLOW { DoctorFinding::warn("disk", text, hint) } else { DoctorFinding::ok("disk", text) });
        }
        Err(error) => say(DoctorFinding::fail(
            "disk",
            format!("the home cannot be written: {}", error_chain(&error)),
            "give this user the right to write there, or free some space",
        )),
    }
}

/// Writes a temporary file and gives the speed in bytes per second.
#[expect(clippy::disallowed_methods, reason = "a speed that a person reads; decides nothing")]
fn write_speed(dir: &Path) -> std::io::Result<f64> {
    // The content is not zeros, since some file systems do not store zeros.
    let block: Vec<u8> = (0..1u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut file = tempfile::tempfile_in(dir)?;
    let start = std::time::Instant::now();
    for _ in 0..WRITTEN / block.len() {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    Ok(WRITTEN as f64 / start.elapsed().max(Duration::from_micros(1)).as_secs_f64())
}

pub(super) fn look_at_port(bind: SocketAddr, runs_here: bool, say: &mut impl FnMut(DoctorFinding)) {
    if bind.ip().is_loopback() {
        say(DoctorFinding::warn(
            "port",
            format!("only this machine can reach {bind}"),
            "for others: --bind 0.0.0.0:4433, --lan or --relay, or the same in config.toml",
        ));
    }
    match UdpSocket::bind(bind) {
        Ok(_) if bind.port() == 0 => {
            say(DoctorFinding::ok("port", "any free UDP port; a fixed one lets others find this node again"));
        }
        Ok(_) => say(DoctorFinding::ok("port", format!("UDP {bind} is free"))),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder(bind.port()).unwrap_or_else(|| "another program".to_owned());
            let text = format!("UDP {bind} is taken by {holder}");
            say(match runs_here {
                true => DoctorFinding::ok("port", format!("{text}, while the node of this home runs")),
                false => DoctorFinding::fail("port", text, "end it, or choose another port with --bind"),
            });
        }
        Err(error) => {
            say(DoctorFinding::fail("port", format!("UDP {bind}: {error}"), "choose another address with --bind"))
        }
    }
}

/// The program that holds a UDP port, as far as this user may see it.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| inodes_of(table, port)).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().into_string().ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let (Some(pid), Ok(files)) = (pid, std::fs::read_dir(process.path().join("fd"))) else { continue };
        let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        let holds = |link: &Path| inodes.iter().any(|inode| link.as_os_str() == format!("socket:[{inode}]").as_str());
        if links.into_iter().any(|link| holds(&link)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The inodes of sockets bound to a port, in a table of the kernel: its second column is the local address, its tenth
/// the inode.
fn inodes_of(table: &str, port: u16) -> Vec<String> {
    let column = |line: &str| -> Option<String> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = columns.get(1)?.rsplit_once(':')?;
        let inode = columns.get(9)?;
        (u16::from_str_radix(hex, 16) == Ok(port)).then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_names_sockets_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     100: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0\n\
                     101: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0\n\
                     nonsense\n";
        assert_eq!(inodes_of(table, 4433), ["4711"]);
        assert_eq!(inodes_of(table, 53), ["4712"]);
        assert!(inodes_of(table, 54).is_empty());
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let found = |runs_here| {
            let mut findings = Vec::new();
            look_at_port(addr, runs_here, &mut |finding| findings.push(finding));
            findings.pop().unwrap()
        };
        let finding = found(false);
        assert_eq!(finding.level, crate::doctor::finding::Level::Fail);
        assert!(finding.text.contains(&format!("(process {})", std::process::id())), "{}", finding.text);
        assert_eq!(found(true).level, crate::doctor::finding::Level::Ok);
        drop(socket);
        assert_eq!(found(false).level, crate::doctor::finding::Level::Ok);
    }
}
