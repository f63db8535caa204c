//! `learn`, `judge`, `record` and `replay` on the running kernel: what was learned is quiet, what was cut away is
//! found. Skips where loading is not permitted. It may call the agent's executable only.

mod cli_support;

use cli_support::{Running, is_permitted, run};
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().expect("the folder's name is text")
}

#[test]
fn a_line_cut_away_is_exactly_what_is_found() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let baseline = folder.path().join("baseline.yaml");
    let folder_text = text(folder.path());
    let script = format!(
        "ls / >{folder_text}/x; cat {folder_text}/x >{folder_text}/y; mv {folder_text}/y {folder_text}/z"
    );
    let judge = |json: &[&str]| {
        let options = ["judge", "--baseline", text(&baseline)];
        run(options.iter().chain(json).chain(&["--", "sh", "-c", &script]).copied().collect::<Vec<_>>())
    };

    let learned = run(["learn", "-o", text(&baseline), "--", "sh", "-c", &script]);
    assert_eq!(learned.status, Some(0), "{}", learned.stderr);
    let quiet = judge(&[]);
    assert_eq!((quiet.status, quiet.stdout.as_str()), (Some(0), ""), "{}", quiet.stderr);

    let yaml = fs::read_to_string(&baseline).expect("learn wrote it");
    let cut = format!("{folder_text}/y");
    // The folder's random name may stand as a template.
    let is_kept = |line: &&str| !line.ends_with("/y");
    let edited: Vec<_> = yaml.lines().filter(is_kept).collect();
    assert_eq!(edited.len() + 1, yaml.lines().count(), "{yaml}");
    fs::write(&baseline, edited.join("\n") + "\n").expect("it can be written");

    let found = judge(&["--json"]);
    assert_eq!(found.status, Some(2), "{}", found.stderr);
    let [finding] = &found.objects()[..] else { panic!("one finding, found {}", found.stdout) };
    assert_eq!((&finding["action"], &finding["object"]), (&"write".into(), &cut.as_str().into()));
    assert_eq!((&finding["reason"], &finding["workload"]), (&"novel".into(), &"command:sh".into()));
    assert_eq!(finding["count"], 1);
    assert!(finding["explanation"]["edit"].as_str().is_some_and(|edit| edit.contains("/y")));
    assert!(finding["process"]["exe"].as_str().is_some_and(|exe| exe.starts_with('/')));
    assert!(!finding["ancestors"].as_array().expect("ancestors are a list").is_empty());

    let shown = judge(&[]);
    assert_eq!(shown.status, Some(2));
    for word in ["process", "parent", "workload  command:sh", "subject", "reason    novel", "edit", &cut] {
        assert!(shown.stdout.contains(word), "{word} in {}", shown.stdout);
    }
}

#[test]
fn what_floor_rules_keep_from_being_learned_is_told() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let baseline = folder.path().join("baseline.yaml");
    let cron = folder.path().join("etc/cron.d");
    fs::create_dir_all(&cron).expect("a folder can be made");
    let job = format!("{}/job", text(&cron));
    let script = format!(
        "echo x >{job}; cd {}; cp /bin/ls gone; exec 3<gone; rm gone; /proc/self/fd/3",
        text(folder.path())
    );
    let learned = run(["learn", "-o", text(&baseline), "--", "sh", "-c", &script]);
    assert_eq!(learned.status, Some(0), "{}", learned.stderr);
    for words in [
        "not learned: 2 observations that floor rules hold",
        "floor rule cron: write of a scheduled job",
        &format!("to allow it, add to {}:", text(&baseline)),
        &format!("- {job}"),
        "floor rule fileless-exec",
        "no entry can allow it",
    ] {
        assert!(learned.stderr.contains(words), "{words} in {}", learned.stderr);
    }
    let judged = run(["judge", "--baseline", text(&baseline), "--", "sh", "-c", &script]);
    assert_eq!(judged.status, Some(2), "{}", judged.stderr);
    assert!(judged.stderr.contains("2 findings"), "{}", judged.stderr);
}

#[test]
fn a_failed_command_is_trouble_when_nothing_was_found() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let baseline = folder.path().join("baseline.yaml");
    let learned = run(["learn", "-o", text(&baseline), "--", "sh", "-c", "ls / >/dev/null; exit 3"]);
    assert_eq!(learned.status, Some(1), "{}", learned.stderr);
    assert!(baseline.exists(), "what was learned is written");
    let judged = run(["judge", "--baseline", text(&baseline), "--", "sh", "-c", "ls / >/dev/null; exit 3"]);
    assert_eq!(judged.status, Some(1));
    assert!(judged.stderr.contains("the command failed: exit status: 3"), "{}", judged.stderr);
    let other = run(["judge", "--baseline", text(&baseline), "--", "true"]);
    assert_eq!(other.status, Some(1));
    assert!(other.stderr.contains("does not list the workload command:true"), "{}", other.stderr);
}

#[test]
fn descendants_that_still_run_are_told_of() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let baseline = folder.path().join("baseline.yaml");
    // Ends once its input does, which is when this test drops the pipe.
    let mut child = Command::new(env!("CARGO_BIN_EXE_sensor-agent"))
        .args([
            "learn",
            "-o",
            text(&baseline),
            "--",
            "sh",
            "-c",
            "exec 3<&0; cat <&3 >/dev/null 2>&1 & exit 0",
        ])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let stdin = child.stdin.take();
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("stderr is piped");
    let status = child.wait().expect("the agent ends though a descendant runs");
    drop(stdin);
    std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("stderr is text");
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains("1 processes that the command started still run"), "{stderr}");
}

#[test]
fn a_recording_is_judged_as_it_happened() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (recording, baseline) = (folder.path().join("records"), folder.path().join("baseline.yaml"));
    fs::write(&baseline, "fleet: test\nworkloads: {}\n").expect("it can be written");
    let recorder = Running::start(["record", "-o", text(&recording)], "recording");
    let script = "cp /bin/true gone && exec 3<gone && rm gone && /proc/self/fd/3 m-replayed";
    let status = Command::new("sh").args(["-c", script]).current_dir(folder.path()).status();
    assert!(status.expect("sh starts").success());
    let (status, _, stderr) = recorder.stop();
    assert!(status.success(), "{stderr}");

    // A program without a name is found whatever the baseline says.
    let replayed = run(["replay", text(&recording), "--baseline", text(&baseline), "--json"]);
    assert_eq!(replayed.status, Some(2), "{}", replayed.stderr);
    let findings = replayed.objects();
    let is_ours = |finding: &&serde_json::Value| {
        finding["process"]["argv"].as_array().is_some_and(|argv| argv.contains(&"m-replayed".into()))
    };
    let finding = findings.iter().find(is_ours).expect("the program is found");
    assert_eq!(
        (&finding["reason"], &finding["floor_rule"]["id"]),
        (&"floor".into(), &"fileless-exec".into())
    );
    let again = run(["replay", text(&recording), "--baseline", text(&baseline), "--json"]);
    assert_eq!(again.stdout, replayed.stdout);

    let mut bytes = fs::read(&recording).expect("it was written");
    bytes.truncate(bytes.len() - 7);
    fs::write(&recording, &bytes).expect("it can be written");
    let cut = run(["replay", text(&recording), "--baseline", text(&baseline)]);
    assert_eq!(cut.status, Some(1));
    let expected = format!("records: at byte {}: the recording was cut short here", bytes.len());
    assert!(cut.stderr.contains(&expected), "{}", cut.stderr);
}

#[test]
fn a_recording_is_learned_from_as_it_happened() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (recording, baseline) = (folder.path().join("records"), folder.path().join("baseline.yaml"));
    let events = folder.path().join("events.jsonl");
    let recorder = Running::start(["record", "-o", text(&recording)], "recording");
    let script = "for _ in 1 2; do cp /bin/true m-learned; ./m-learned m-argument; done";
    let status = Command::new("sh").args(["-c", script]).current_dir(folder.path()).status();
    assert!(status.expect("sh starts").success());
    let (status, _, stderr) = recorder.stop();
    assert!(status.success(), "{stderr}");

    let learned = run(["baseline", "learn", text(&recording), "-o", text(&baseline)]);
    assert_eq!(learned.status, Some(0), "{}", learned.stderr);
    assert!(learned.stderr.contains("bytes of memory"), "{}", learned.stderr);
    let arguments = ["replay", text(&recording), "--baseline", text(&baseline), "--json", "--per-incident"];
    let replayed = run(arguments.into_iter().chain(["--events", text(&events)]));
    assert_eq!(replayed.status, Some(2), "{}", replayed.stderr);
    let findings = replayed.objects();
    // What was learned is quiet; what a floor rule holds is not learned, and is told once of an incident.
    let program = text(&folder.path().join("m-learned")).to_owned();
    let told = findings.iter().filter(|finding| finding["object"] == *program);
    let told: Vec<_> = told.map(|finding| (&finding["action"], &finding["reason"])).collect();
    assert_eq!(told, [(&"exec".into(), &"floor".into())]);
    let events = fs::read_to_string(&events).expect("they were written");
    let is_start = |line: &&str| {
        line.contains(r#""activity_name":"Launch""#)
            && line.contains(r#""argv":["./m-learned","m-argument"]"#)
    };
    assert_eq!(events.lines().filter(is_start).count(), 2);

    let empty = folder.path().join("empty.yaml");
    let none = run(["baseline", "learn", text(&recording), "-o", text(&empty), "--workload", "unit:none"]);
    assert_eq!(none.status, Some(1), "{}", none.stderr);
    assert!(none.stderr.contains("--workload unit:none: in no recording"), "{}", none.stderr);
    assert!(!empty.exists(), "nothing is written");
}
