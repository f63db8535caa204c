//! Native tests: every event, its content and its account, by real programs on the running kernel. One binary that
//! needs nothing but a shell with `true`, `false`, `touch` and `rm`, so that `cargo xtask vm` can run it in an empty
//! machine too. Not tests of the decoder or of the agent. It may call the agent's kernel module.
//!
//! A module a subject. Its tests act through children: real programs, or this binary again, asked for an action
//! ([`support::actor`]) that the module's `act` carries out. A test that has asserted what an event holds says so
//! with [`support::Capture::cell`]; an event that cannot be asserted here is said with [`support::no_cell`].

#[cfg(target_arch = "x86_64")]
mod compat;
mod files;
mod flood;
mod names;
mod network;
mod overload;
mod privilege;
mod process;
mod race;
mod raw;
#[cfg(target_arch = "x86_64")]
mod raw_compat;
mod raw_race;
mod raw_uring;
mod refusals;
mod rings;
mod sockets;
mod startup;
mod support;
mod verdicts;
mod verdicts_acts;

/// Not a test of its own: in a child made by [`support::actor`] it does what was asked, else nothing.
#[test]
fn acting_child() {
    let Some((action, folder)) = support::requested() else { return };
    let (module, action) = action.split_once('/').expect("an action is `module/what`");
    match module {
        #[cfg(target_arch = "x86_64")]
        "compat" => compat::act(action, &folder),
        "files" => files::act(action, &folder),
        "flood" => flood::act(action),
        "names" => names::act(action, &folder),
        "network" => network::act(action, &folder),
        "overload" => overload::act(action, &folder),
        "privilege" => privilege::act(action, &folder),
        "process" => process::act(action, &folder),
        "race" => race::act(action, &folder),
        "refusals" => refusals::act(action),
        "rings" => rings::act(action, &folder),
        "sockets" => sockets::act(action, &folder),
        "startup" => startup::act(action),
        "verdicts" => verdicts::act(action, &folder),
        _ => panic!("no module {module} has actions"),
    }
}
