//! The service that the demo learns: a small HTTP server with a hole. `/` answers a page and writes an access log;
//! `/lookup?name=NAME` pastes NAME into a shell command, as such services do. Not a library and not safe: it
//! listens on loopback for the minutes of a demo. It may write its log and run `/bin/sh`.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// Longest request head that is read, in bytes.
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// Where the service listens and logs.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The access log.
    #[arg(long)]
    log: PathBuf,
}

/// Serves until it is killed. Prints `listening PORT` first.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding a loopback port")?;
    println!("listening {}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    for stream in listener.incoming() {
        // A client that goes away mid-request is its own trouble.
        let _ = stream.and_then(|mut stream| answer(&mut stream, arguments));
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, arguments: &Arguments) -> std::io::Result<()> {
    let mut request = String::new();
    BufReader::new((&mut *stream).take(REQUEST_BYTES_MAX)).read_line(&mut request)?;
    let target = request.split_whitespace().nth(1).unwrap_or("/");
    let mut log = File::options().create(true).append(true).open(&arguments.log)?;
    writeln!(log, "{target}")?;
    let body = match target.strip_prefix("/lookup?name=") {
        Some(name) => lookup(&percent_decode(name)),
        None => "It works.\n".to_owned(),
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// The hole: `name` reaches a shell.
fn lookup(name: &str) -> String {
    let output = Command::new("/bin/sh").arg("-c").arg(format!("getent hosts {name}")).output();
    output
        .map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn percent_escapes_become_bytes() {
        for (text, expected) in [("a%20b", "a b"), ("%2", "%2"), ("%zz", "%zz"), ("x%3B%3b", "x;;"), ("", "")]
        {
            assert_eq!(percent_decode(text), expected);
        }
    }
}
