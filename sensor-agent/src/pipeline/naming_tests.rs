//! What containers do while their image is looked up. Not the look-up. It may call the pipeline's public functions, the
//! record fixture, and the pipeline tests' host.

use super::tests::{behaviours, feed, nginx, with};
use super::*;
use crate::record_fixture::Who;

#[test]
fn what_a_container_does_waits_for_its_image() {
    let mut pipeline = with(PipelineConfig { are_containers_named: true, ..PipelineConfig::default() });
    let [first, second] = [(78, "0123456789abcdef"), (79, "fedcba9876543210")];
    let path = |digits: &str| format!("/kubepods/pod1/{}", digits.repeat(4));
    let [one, two] = [Who::new(30, 10).in_cgroup(first.0), Who::new(31, 10).in_cgroup(second.0)];
    let records = [
        nginx().cgroup(first.0, &path(first.1)),
        nginx().cgroup(second.0, &path(second.1)),
        nginx().fork(Who::new(30, 10)),
        nginx().fork(Who::new(31, 10)),
        one.listen(5),
        two.listen(6),
        nginx().listen(7),
        one.listen(8),
    ];
    let out = feed(&mut pipeline, &records);
    assert_eq!(behaviours(&out), ["unit:web.service /usr/sbin/nginx listen tcp 127.0.0.1 7"]);
    let wanted: Vec<ContainerRef> = pipeline.unnamed().cloned().collect();
    assert_eq!(wanted.len(), 2, "each is asked for once");

    let mut out = Output::default();
    pipeline.name(&ContainerImage::of(&wanted[0], Some("nginx:1")), &mut out);
    let image = "container:docker.io/library/nginx /usr/sbin/nginx listen tcp 127.0.0.1";
    assert_eq!(behaviours(&out), [format!("{image} 5"), format!("{image} 8")]);
    out.clear();
    pipeline.name(&ContainerImage::of(&wanted[1], None), &mut out);
    assert_eq!(behaviours(&out), ["container:fedcba987654 /usr/sbin/nginx listen tcp 127.0.0.1 6"]);
    let out = feed(&mut pipeline, &[one.listen(9), two.listen(10)]);
    assert_eq!(behaviours(&out)[0], format!("{image} 9"));
    assert_eq!(behaviours(&out)[1], "container:fedcba987654 /usr/sbin/nginx listen tcp 127.0.0.1 10");
    assert_eq!((pipeline.unnamed().count(), pipeline.counters()["observations_unnamed"]), (0, 0));
}

#[test]
fn nothing_waits_for_an_image_for_ever() {
    let mut pipeline = with(PipelineConfig { are_containers_named: true, ..PipelineConfig::default() });
    let one = Who::new(30, 10).in_cgroup(78);
    let container = nginx().cgroup(78, &format!("/docker/{}", "0123456789abcdef".repeat(4)));
    let fork = nginx().fork(Who::new(30, 10));
    let (first, second) = (one.time_ns, 10_000_000_000);
    let out =
        feed(&mut pipeline, &[container, fork, one.at(first).listen(5), one.at(first + second).listen(6)]);
    assert_eq!(behaviours(&out).len(), 0);
    let out = feed(&mut pipeline, &[one.at(first + second + 1).listen(7)]);
    let listens = |port: u16| format!("container:0123456789ab /usr/sbin/nginx listen tcp 127.0.0.1 {port}");
    assert_eq!(behaviours(&out), [listens(5), listens(7)], "the rest has not waited long enough");
    let mut out = Output::default();
    pipeline.give_up_naming(&mut out);
    assert_eq!((behaviours(&out), pipeline.counters()["observations_unnamed"]), (vec![listens(6)], 2));
}

#[test]
fn a_flood_pushes_out_the_oldest_that_waits_and_loses_none() {
    let mut pipeline = with(PipelineConfig { are_containers_named: true, ..PipelineConfig::default() });
    let one = Who::new(30, 10).in_cgroup(78);
    let mut records = vec![nginx().cgroup(78, &format!("/docker/{}", "0123456789abcdef".repeat(4)))];
    records.push(nginx().fork(Who::new(30, 10)));
    records.extend((0..8_200).map(|port| one.listen(port + 1)));
    let mut out = feed(&mut pipeline, &records);
    assert_eq!(out.observations.len(), 8);
    let wanted: Vec<ContainerRef> = pipeline.unnamed().cloned().collect();
    pipeline.name(&ContainerImage::of(&wanted[0], Some("nginx:1")), &mut out);
    assert_eq!((out.observations.len(), pipeline.counters()["observations_unnamed"]), (8_200, 8));
}
