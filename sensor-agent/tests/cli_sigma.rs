//! `sigma check`, and `learn` and `judge` with rules on the running kernel. Skips where loading is not permitted. It may
//! call the agent's executable only.

mod cli_support;

use cli_support::{is_permitted, run};
use std::fs;
use std::path::Path;

const EXEC: &str = "title: A copy in disguise\nid: disguise\nlevel: high\ntags: [attack.t1036.003]\nlogsource:\n    product: linux\n    \
     category: process_creation\ndetection:\n    selection:\n        Image|endswith: /cp\n        CommandLine|contains: \
     disguise\n        ParentImage|contains: sh\n    condition: selection\n";
const FILE: &str = "title: A marked file\nid: marked\nlogsource:\n    product: linux\n    category: file_event\ndetection:\n    \
     selection:\n        TargetFilename|endswith: /marked\n    condition: selection\n";
const HOST: &str = "title: A name\nid: name\nlogsource:\n    product: linux\n    category: network_connection\ndetection:\n    \
     selection:\n        DestinationHostname: x.example\n    condition: selection\n";

fn text(path: &Path) -> &str {
    path.to_str().expect("the folder's name is text")
}

#[test]
fn check_lists_what_is_loaded_and_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write =
        |name: &str, rule: &str| fs::write(folder.path().join(name), rule).expect("it can be written");
    write("exec.yml", EXEC);
    write("file.yml", FILE);
    let check = |more: &[&str]| run(["sigma", "check", text(folder.path())].iter().chain(more));
    let said = check(&[]);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (
            Some(0),
            "loaded process_creation high disguise: A copy in disguise\nloaded file_event medium marked: A marked file\n\
             2 Sigma rules loaded (1 process_creation, 1 file_event, 0 network_connection), 0 refused, 0 below the level\n"
        ),
        "{}",
        said.stderr
    );
    write("host.yml", HOST);
    let said = check(&["--level-min", "high"]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    let refused = "/host.yml: A name: network_connection events do not have the field DestinationHostname\n";
    assert!(said.stdout.contains(refused), "{}", said.stdout);
    assert!(said.stdout.contains("1 Sigma rules loaded (1 process_creation"), "{}", said.stdout);
    assert!(said.stdout.ends_with("1 refused, 1 below the level\n"), "{}", said.stdout);
}

#[test]
fn wrong_folders_and_levels_are_named() {
    let missing = run(["sigma", "check", "/nowhere/rules"]);
    assert_eq!(missing.status, Some(1));
    let expected = "cannot read Sigma rules: /nowhere/rules: No such file or directory";
    assert!(missing.stderr.contains(expected), "{}", missing.stderr);
    let level = run(["sigma", "check", "/", "--level-min", "bad"]);
    assert_eq!(level.status, Some(1));
    assert!(
        level.stderr.contains("not one of informational, low, medium, high, critical"),
        "{}",
        level.stderr
    );
}

#[test]
fn rules_find_what_was_learned_and_hold_what_is_high() {
    if !is_permitted() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (rules, baseline) = (folder.path().join("rules"), folder.path().join("baseline.yaml"));
    fs::create_dir(&rules).expect("a folder can be made");
    fs::write(rules.join("exec.yml"), EXEC).expect("it can be written");
    fs::write(rules.join("file.yml"), FILE).expect("it can be written");
    let script =
        format!("cd {0}; cp /etc/hostname disguise; echo x >marked; ls >/dev/null", text(folder.path()));
    let on_script = |options: &[&str]| run(options.iter().chain(&["--", "sh", "-c", &script]));

    let learned = on_script(&["learn", "-o", text(&baseline), "--sigma", text(&rules)]);
    assert_eq!(learned.status, Some(0), "{}", learned.stderr);
    for words in [
        "2 Sigma rules loaded",
        "not learned: 1 observations that Sigma rules hold",
        "A copy in disguise (Sigma disguise, high, T1036.003)",
        "A marked file (Sigma marked, medium)",
    ] {
        assert!(learned.stderr.contains(words), "{words} in {}", learned.stderr);
    }
    let yaml = fs::read_to_string(&baseline).expect("learn wrote it");
    assert!(yaml.contains("/marked"), "medium is learned: {yaml}");
    assert!(!yaml.contains("/cp\n"), "high is not: {yaml}");

    let judged = on_script(&["judge", "--json", "--baseline", text(&baseline), "--sigma", text(&rules)]);
    assert_eq!(judged.status, Some(2), "{}", judged.stderr);
    let mut told: Vec<String> = judged
        .objects()
        .iter()
        .map(|finding| {
            let (rules, reason) = (&finding["rules"], finding["reason"].as_str().expect("it has a reason"));
            format!("{reason} {} {} {}", rules[0]["id"], rules[0]["level"], rules[0]["techniques"])
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [r#"novel "disguise" "high" ["T1036.003"]"#, r#"sigma "marked" "medium" []"#],
        "{}",
        judged.stdout
    );
    let high = on_script(&[
        "judge",
        "--json",
        "--baseline",
        text(&baseline),
        "--sigma",
        text(&rules),
        "--sigma-level",
        "high",
    ]);
    assert_eq!(high.objects().len(), 1, "{}", high.stdout);
}
