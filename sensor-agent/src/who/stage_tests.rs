//! The stage with a test at the other end of its channels, and times as numbers. Not the lookups. It may call the
//! parent module.

use super::*;
use crate::enrich::subject::FileId;
use crate::who::container::Files;
use crossbeam_channel::{Receiver, Sender, bounded};

/// An item: one process, whose hash is wanted or not.
#[derive(Debug)]
struct Item(ProcessFacts, bool);

impl Doing for Item {
    fn each_process(&mut self, visit: &mut dyn FnMut(&mut ProcessFacts, bool)) {
        visit(&mut self.0, self.1);
    }
}

struct Fixture {
    stage: Stage<Item>,
    requests: Receiver<Request>,
    files: Receiver<FileRequest>,
    answers: Sender<Answer>,
}

fn fixture(questions_max: usize) -> Fixture {
    let (ask, requests) = bounded(questions_max);
    let (ask_file, files) = bounded(questions_max);
    let (answers, answered) = bounded(64);
    let lookups = Lookups::of(ask, ask_file, answered);
    Fixture { stage: Stage::new(Some(lookups), OWN_NAMESPACE), requests, files, answers }
}

const OWN_NAMESPACE: u32 = 7;

fn process(pid: u32, cgroup: &str) -> ProcessFacts {
    ProcessFacts { pid, cgroup: cgroup.to_owned(), ..ProcessFacts::default() }
}

fn names() -> Arc<Names> {
    Arc::new(Names::parse(b"root:x:0:\nann:x:1000:\n", b"root:x:0:\n"))
}

impl Fixture {
    fn push(&mut self, facts: ProcessFacts, now_ms: u64) {
        self.stage.push(Item(facts, false), ms(now_ms));
    }

    fn pop(&mut self, now_ms: u64) -> Option<ProcessFacts> {
        self.stage.pop(ms(now_ms)).map(|item| item.0)
    }

    fn answer_names(&self, now_ms: u64) {
        self.answers.send(Answer::Names { asked: ms(now_ms), names: names() }).unwrap();
    }

    /// The program whose hash is asked for.
    fn wanted(&self) -> Wanted {
        let Ok(FileRequest::Hash(wanted)) = self.files.try_recv() else { panic!("a hash is asked for") };
        wanted
    }

    fn count(&self, name: &str) -> u64 {
        self.stage.counters()[name]
    }
}

const fn ms(milliseconds: u64) -> BootNs {
    BootNs(milliseconds * 1_000_000)
}

#[test]
fn an_item_waits_for_its_answers_and_those_behind_it_for_their_turn() {
    let mut fixture = fixture(8);
    fixture
        .push(process(1, "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 1000);
    fixture.push(process(2, "/"), 1000);
    assert_eq!(fixture.requests.try_recv(), Ok(Request::Names { asked: ms(1000) }));
    let Ok(Request::Container(wanted)) = fixture.requests.try_recv() else {
        panic!("the container is asked for")
    };
    assert!(fixture.requests.try_recv().is_err(), "each question is asked once");
    fixture.answer_names(1000);
    assert_eq!(fixture.pop(1001), None, "the second knows all, and is not first");
    let container = Arc::new(Container { name: Some("web".to_owned()), ..Container::default() });
    fixture.answers.send(Answer::Container(wanted, Ok(container))).unwrap();
    let first = fixture.pop(1002).unwrap();
    assert_eq!((first.pid, first.who.user.as_deref()), (1, Some("root")));
    assert_eq!(first.who.container.unwrap().name.as_deref(), Some("web"));
    assert_eq!(fixture.pop(1002).unwrap().pid, 2);
    assert!(fixture.stage.is_empty());
    assert_eq!(fixture.count("who_passed_incomplete{reason=late}"), 0);
}

#[test]
fn what_is_known_is_not_asked_again_and_does_not_wait() {
    let mut fixture = fixture(8);
    fixture.push(process(1, "/"), 1000);
    fixture.answer_names(1000);
    assert_eq!(fixture.pop(1000).unwrap().pid, 1);
    assert!(fixture.requests.try_recv().is_ok());
    fixture.push(process(2, "/"), 1500);
    assert_eq!(fixture.pop(1500).unwrap().pid, 2);
    assert!(fixture.requests.try_recv().is_err());
    // Old names still serve while new ones are asked for.
    fixture.push(process(3, "/"), 20_000);
    assert_eq!(fixture.pop(20_000).unwrap().who.user.as_deref(), Some("root"));
    assert_eq!(fixture.requests.try_recv(), Ok(Request::Names { asked: ms(20_000) }));
}

#[test]
fn a_number_without_a_name_is_asked_for_anew() {
    let mut fixture = fixture(8);
    fixture.push(process(1, "/"), 1000);
    fixture.answer_names(1000);
    fixture.pop(1000).unwrap();
    fixture.requests.try_recv().unwrap();
    let stranger = ProcessFacts { uid: 4711, ..process(2, "/") };
    fixture.push(stranger.clone(), 1500);
    assert_eq!(fixture.pop(1500).unwrap().who.user, None, "names of half a second ago have nobody");
    fixture.push(stranger, 3000);
    assert_eq!(fixture.pop(3000), None);
    assert_eq!(fixture.requests.try_recv(), Ok(Request::Names { asked: ms(3000) }));
    fixture.answer_names(3000);
    assert_eq!(fixture.pop(3001).unwrap().who.user, None);
}

#[test]
fn an_item_whose_time_is_up_passes_with_what_is_known_and_says_why() {
    let mut fixture = fixture(8);
    fixture.push(process(9, "/"), 0);
    fixture.answer_names(0);
    fixture.pop(0).unwrap();
    let file = Some(FileId { dev: 1, inode: 2 });
    let path = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let (mnt_ns, image_since) = (OWN_NAMESPACE, BootNs(77));
    let facts = ProcessFacts { file, exe: "/bin/x".to_owned(), mnt_ns, image_since, ..process(1, path) };
    fixture.stage.push(Item(facts, true), ms(100));
    let wanted = fixture.wanted();
    assert_eq!(wanted.ran, BootNs(77), "when it was executed");
    assert_eq!(wanted.names, ["/bin/x"], "in the agent's own mounts the path is the host's");
    assert_eq!(fixture.pop(600), None);
    let late = fixture.pop(601).unwrap();
    assert_eq!(late.who.hash, Some(Err(NoHash::Late)));
    assert_eq!(late.who.container_missing, Some("not ready in time"));
    assert_eq!(late.who.user.as_deref(), Some("root"));
    assert_eq!(fixture.count("who_passed_incomplete{reason=late}"), 1);
    assert_eq!(fixture.count("who_hashes_missing"), 1);
}

#[test]
fn without_room_the_oldest_passes_as_it_is_and_order_is_kept() {
    let mut fixture = fixture(8);
    fixture.stage.waiting_max = 2;
    for pid in 1..=4 {
        fixture.push(process(pid, "/"), 0);
    }
    assert_eq!(fixture.count("who_passed_incomplete{reason=full}"), 2);
    assert_eq!([fixture.pop(0).unwrap().pid, fixture.pop(0).unwrap().pid], [1, 2]);
    assert_eq!(fixture.pop(0), None);
    fixture.answer_names(0);
    assert_eq!([fixture.pop(1).unwrap().pid, fixture.pop(1).unwrap().pid], [3, 4]);
}

#[test]
fn a_question_for_which_there_is_no_room_holds_nothing_up() {
    let mut fixture = fixture(1);
    fixture.push(process(1, "/"), 0);
    fixture.answer_names(0);
    fixture.pop(0).unwrap();
    let file = |inode| Some(FileId { dev: 1, inode });
    for pid in [1, 2] {
        let facts = ProcessFacts { file: file(u64::from(pid)), ..process(pid, "/") };
        fixture.stage.push(Item(facts, true), ms(1));
    }
    let key = fixture.wanted().key;
    fixture.answers.send(Answer::Hash(key, Ok(Arc::from("ab")))).unwrap();
    assert_eq!(fixture.pop(2).unwrap().who.hash, Some(Ok(Arc::from("ab"))));
    // The second may be asked for now that there is room, or has passed without: it does not wait for ever.
    assert!(fixture.count("who_refused{reason=queue_full}") >= 1);
    assert!(fixture.pop(1000).is_some());
}

#[test]
fn a_program_of_a_container_is_asked_for_again_once_its_name_on_the_host_is_known() {
    let mut fixture = fixture(8);
    fixture.answer_names(0);
    let path = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let file = Some(FileId { dev: 1, inode: 2 });
    let facts = ProcessFacts { file, exe: "/bin/x".to_owned(), mnt_ns: 99, ..process(1, path) };
    fixture.stage.push(Item(facts, true), ms(0));
    let Ok(Request::Container(wanted)) = fixture.requests.try_recv() else {
        panic!("the container is asked for")
    };
    let Wanted { key: bare, names, .. } = fixture.wanted();
    assert_eq!(names, ["/bin/x"], "it may be the host's name all the same");
    fixture.answers.send(Answer::Hash(bare, Err(NoHash::Gone))).unwrap();
    assert_eq!(fixture.pop(1), None);
    let files = Files { root: Some("/merged".to_owned()), mounts: Vec::new() };
    let container = Arc::new(Container { files, ..Container::default() });
    fixture.answers.send(Answer::Container(wanted, Ok(container))).unwrap();
    assert_eq!(fixture.pop(2), None);
    let Ok(FileRequest::Name(name)) = fixture.files.try_recv() else { panic!("the name is looked at") };
    assert_eq!(name, HostName { path: "/merged/bin/x".to_owned(), file: FileId { dev: 1, inode: 2 } });
    fixture.answers.send(Answer::Name(name, true)).unwrap();
    let Wanted { key: named, names, .. } = fixture.wanted();
    assert_eq!(names, ["/bin/x", "/merged/bin/x"]);
    fixture.answers.send(Answer::Hash(named, Ok(Arc::from("ab")))).unwrap();
    let who = fixture.pop(3).unwrap().who;
    assert_eq!(who.hash, Some(Ok(Arc::from("ab"))));
    assert_eq!(who.exe_on_host.as_deref(), Some("/merged/bin/x"));
}

#[test]
fn a_container_s_paths_are_told_as_the_host_s_only_where_they_are() {
    let files = Files { root: Some("/merged".to_owned()), mounts: Vec::new() };
    let container = Arc::new(Container { files, mnt_ns: Some(99), ..Container::default() });
    let mut facts = ProcessFacts { mnt_ns: 99, ..process(1, "/") };
    assert_eq!(facts.on_host("/x"), None);
    facts.who.container = Some(Arc::clone(&container));
    assert_eq!(facts.on_host("/x").as_deref(), Some("/merged/x"));
    facts.mnt_ns = 98;
    assert_eq!(facts.on_host("/x"), None, "it may have mounted something else there");
    facts.mnt_ns = 0;
    facts.who.container = Some(Arc::new(Container { mnt_ns: None, ..(*container).clone() }));
    assert_eq!(facts.on_host("/x"), None, "nobody knows");
}

#[test]
fn a_program_that_is_another_file_on_the_host_has_no_name_there() {
    let mut fixture = fixture(8);
    fixture.answer_names(0);
    let path = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let file = Some(FileId { dev: 1, inode: 2 });
    fixture.push(ProcessFacts { file, exe: "/bin/x".to_owned(), mnt_ns: 99, ..process(1, path) }, 0);
    let Ok(Request::Container(wanted)) = fixture.requests.try_recv() else { panic!("it is asked for") };
    let files = Files { root: Some("/merged".to_owned()), mounts: Vec::new() };
    let container = Arc::new(Container { files, ..Container::default() });
    fixture.answers.send(Answer::Container(wanted, Ok(container))).unwrap();
    assert_eq!(fixture.pop(1), None);
    let Ok(FileRequest::Name(name)) = fixture.files.try_recv() else { panic!("the name is looked at") };
    fixture.answers.send(Answer::Name(name, false)).unwrap();
    assert_eq!(fixture.pop(2).unwrap().who.exe_on_host, None);
}

#[test]
fn without_lookups_only_the_path_speaks_and_nothing_waits() {
    let mut stage = Stage::new(None, 0);
    stage.push(Item(process(1, "/system.slice/x.service"), true), ms(0));
    let facts = stage.pop(ms(0)).unwrap().0;
    assert_eq!((facts.who.place.unit.as_deref(), facts.who.user), (Some("x.service"), None));
    assert_eq!(facts.who.hash, None);
}

#[test]
fn a_timer_is_asked_for_only_where_no_ancestor_says_more() {
    let mut fixture = fixture(8);
    fixture.push(process(1, "/"), 0);
    fixture.answer_names(0);
    fixture.pop(0).unwrap();
    fixture.requests.try_recv().unwrap();
    fixture.push(process(2, "/system.slice/backup.service"), 1);
    let Ok(Request::Timer(unit)) = fixture.requests.try_recv() else { panic!("the timer is asked for") };
    fixture.answers.send(Answer::Timer(unit, Some(Arc::from("backup.timer")))).unwrap();
    let facts = fixture.pop(2).unwrap();
    assert_eq!((facts.who.timer.as_deref(), facts.origin_name()), (Some("backup.timer"), Some("timer")));
    fixture.push(process(3, "/system.slice/web.scope"), 3);
    assert!(fixture.requests.try_recv().is_err(), "no timer starts a scope");
}

#[test]
fn a_container_that_is_known_in_part_says_why_and_is_asked_for_again_soon() {
    let mut fixture = fixture(8);
    fixture.answer_names(0);
    let path = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let mut ask = |now_ms: u64, missing, mnt_ns| {
        fixture.push(process(1, path), now_ms);
        let asked = fixture.requests.try_iter().find_map(|request| match request {
            Request::Container(wanted) => Some(wanted),
            _ => None,
        });
        let is_asked = asked.is_some();
        if let Some(wanted) = asked {
            let container = Arc::new(Container { missing, mnt_ns, ..Container::default() });
            fixture.answers.send(Answer::Container(wanted, Ok(container))).unwrap();
        }
        let who = fixture.pop(now_ms).unwrap().who;
        assert!(who.container.is_some());
        (is_asked, who.container_missing)
    };
    let reason = Some(Missing::Unreadable.name());
    assert_eq!(ask(1, Some(Missing::Unreadable), Some(9)), (true, reason));
    assert_eq!(ask(1_000, None, None), (false, reason));
    assert_eq!(ask(2_002, None, None), (true, None), "its first process is not known");
    assert_eq!(ask(2_252, None, None), (false, None));
    assert_eq!(ask(2_253, None, Some(9)), (true, None), "which may have started since");
    assert_eq!(ask(9_000, None, None), (false, None), "all is known");
}
