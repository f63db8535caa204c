//! Look-ups in folders laid out as each runtime lays out its own. Not a running runtime: that is `tests/who`. It may
//! call the parent module.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Host(tempfile::TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path.replace("ID", ID));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text.replace("ID", ID)).unwrap();
        }
        Self(root)
    }

    fn find(
        &self,
        runtime: Option<Runtime>,
        namespace: Option<&str>,
        id: &str,
    ) -> Result<Container, Missing> {
        let roots = Roots { host: self.0.path().to_owned(), containerd: Vec::new() };
        let namespace = namespace.map(str::to_owned);
        Containers::new(roots).find(&ContainerRef { runtime, namespace, id: id.to_owned() })
    }

    fn path(&self, below: &str) -> String {
        self.0.path().join(below.replace("ID", ID)).to_str().unwrap().to_owned()
    }
}

/// As `docker run --name web -v /srv/www:/usr/share/nginx/html nginx:1.27` leaves it, in Docker 24 with overlay2.
const DOCKER: [(&str, &str); 2] = [
    (
        "var/lib/docker/containers/ID/config.v2.json",
        r#"{"StreamConfig":{},"State":{"Running":true,"Pid":4242},"ID":"ID","Created":"2026-01-02T03:04:05Z",
            "Config":{"Hostname":"0123456789ab","Image":"nginx:1.27","Labels":{"maintainer":"x"}},
            "Image":"sha256:aa11","Driver":"overlay2","Name":"/web",
            "MountPoints":{"/usr/share/nginx/html":{"Source":"/srv/www","Destination":"/usr/share/nginx/html","Type":"bind"}}}"#,
    ),
    ("var/lib/docker/image/overlay2/layerdb/mounts/ID/mount-id", "cafe01\n"),
];

#[test]
fn docker_keeps_a_container_in_its_config() {
    let host = Host::new(&DOCKER);
    let found = host.find(Some(Runtime::Docker), None, ID).unwrap();
    assert_eq!(found.mnt_ns, None, "no process of that number: it has ended");
    assert!(!found.is_whole());
    assert_eq!(found.name.as_deref(), Some("web"));
    assert_eq!(
        (found.image.as_deref(), found.image_id.as_deref()),
        (Some("nginx:1.27"), Some("sha256:aa11"))
    );
    assert_eq!(found.runtime, "docker");
    let merged = host.path("var/lib/docker/overlay2/cafe01/merged");
    assert_eq!(found.files.on_host("/usr/sbin/nginx"), Some(format!("{merged}/usr/sbin/nginx")));
    assert_eq!(found.files.on_host("/usr/share/nginx/html/a"), Some("/srv/www/a".to_owned()));
    assert_eq!(
        found.files.on_host("/usr/share/nginx/htmlx"),
        Some(format!("{merged}/usr/share/nginx/htmlx"))
    );
}

#[test]
fn a_path_that_fits_several_runtimes_is_looked_up_at_each() {
    let found = Host::new(&DOCKER).find(None, None, ID).unwrap();
    assert_eq!((found.runtime, found.name.as_deref()), ("docker", Some("web")));
}

/// As CRI-O 1.30 leaves a container of a pod.
const CRIO: [(&str, &str); 2] = [
    (
        "var/lib/containers/storage/overlay-containers/containers.json",
        r#"[{"id":"ID","names":["k8s_app_web-1_shop_7c1f8a52-11d4-4f0e-9a39-5d6b2d3c4e5f_0"],"image":"bb22","layer":"l1",
             "metadata":"{\"pod-name\":\"k8s_POD\",\"image-name\":\"quay.io/shop/app:3\",\"name\":\"k8s_app_web-1_shop\"}"}]"#,
    ),
    (
        "var/lib/containers/storage/overlay-containers/ID/userdata/config.json",
        r#"{"ociVersion":"1.0.2","root":{"path":"/var/lib/containers/storage/overlay/l1/merged"},
            "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
                      {"destination":"/data","type":"bind","source":"/mnt/data","options":["rbind","rw"]}],
            "annotations":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-1",
                           "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"7c1f8a52-11d4-4f0e-9a39-5d6b2d3c4e5f",
                           "io.kubernetes.cri-o.ImageName":"quay.io/shop/app:3"}}"#,
    ),
];

#[test]
fn crio_keeps_a_container_in_the_storage_library_and_its_spec() {
    let found = Host::new(&CRIO).find(Some(Runtime::CriO), None, ID).unwrap();
    assert_eq!((found.runtime, found.name.as_deref()), ("cri-o", Some("app")));
    assert_eq!(
        (found.image.as_deref(), found.image_id.as_deref()),
        (Some("quay.io/shop/app:3"), Some("bb22"))
    );
    let pod = (found.pod_name.as_deref(), found.pod_namespace.as_deref(), found.pod_uid.as_deref());
    assert_eq!(pod, (Some("web-1"), Some("shop"), Some("7c1f8a52-11d4-4f0e-9a39-5d6b2d3c4e5f")));
    let merged = "/var/lib/containers/storage/overlay/l1/merged";
    assert_eq!(found.files.on_host("/app"), Some(format!("{merged}/app")));
    assert_eq!(found.files.on_host("/data/x"), Some("/mnt/data/x".to_owned()));
    assert_eq!(found.files.on_host("/proc/1"), None, "the host has no name for it");
}

#[test]
fn podman_keeps_a_container_in_the_storage_library() {
    let host = Host::new(&[(
        "var/lib/containers/storage/overlay-containers/containers.json",
        r#"[{"id":"other","names":["x"]},{"id":"ID","names":["web"],"image":"cc33",
             "metadata":"{\"image-name\":\"docker.io/library/alpine:3\",\"image-id\":\"cc33\",\"name\":\"web\"}"}]"#,
    )]);
    let found = host.find(Some(Runtime::Podman), None, ID).unwrap();
    assert_eq!((found.runtime, found.name.as_deref()), ("podman", Some("web")));
    assert_eq!(found.image.as_deref(), Some("docker.io/library/alpine:3"));
    assert_eq!(found.files, Files::default(), "no spec, no paths");
}

/// As containerd's CRI leaves a container, without its socket: the image is told by an annotation.
const CRI: [(&str, &str); 1] = [(
    "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
    r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},"mounts":[{"destination":"/etc/hosts","type":"bind",
        "source":"/var/lib/kubelet/pods/p/etc-hosts","options":["rbind"]}],
        "annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"docker.io/library/app:1",
                       "io.kubernetes.cri.sandbox-name":"web-1","io.kubernetes.cri.sandbox-namespace":"shop",
                       "io.kubernetes.cri.sandbox-uid":"7c1f8a52-11d4-4f0e-9a39-5d6b2d3c4e5f"}}"#,
)];

#[test]
fn containerd_keeps_a_bundle_in_its_state_folder() {
    let host = Host::new(&CRI);
    for (runtime, namespace) in [(Some(Runtime::Containerd), Some("k8s.io")), (None, None)] {
        let found = host.find(runtime, namespace, ID).unwrap();
        assert_eq!((found.name.as_deref(), found.namespace.as_deref()), (Some("app"), Some("k8s.io")));
        assert_eq!(found.image.as_deref(), Some("docker.io/library/app:1"));
        assert_eq!(
            (found.pod_name.as_deref(), found.pod_namespace.as_deref()),
            (Some("web-1"), Some("shop"))
        );
        let bundle = host.path("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID");
        assert_eq!(found.files.on_host("/bin/app"), Some(format!("{bundle}/rootfs/bin/app")));
        assert_eq!(found.files.on_host("/etc/hosts").as_deref(), Some("/var/lib/kubelet/pods/p/etc-hosts"));
    }
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_missing() {
    let host = Host::new(&[("var/lib/docker/containers/ID/config.v2.json", "{"), ("secret", "{}")]);
    assert_eq!(host.find(Some(Runtime::Docker), None, ID), Err(Missing::Unreadable));
    assert_eq!(host.find(Some(Runtime::Podman), None, ID), Err(Missing::NotFound));
    assert_eq!(host.find(Some(Runtime::Containerd), Some("default"), "web"), Err(Missing::NotFound));
    for id in ["..", ".", "", "a/b", "../../../secret", "a\\x2fb", &"a".repeat(200)] {
        assert_eq!(host.find(Some(Runtime::Docker), None, id), Err(Missing::NotFound), "{id:?}");
        assert_eq!(host.find(Some(Runtime::Containerd), Some(id), "x"), Err(Missing::NotFound), "{id:?}");
    }
}

#[test]
fn podman_keeps_a_container_that_is_removed_when_it_ends_in_a_list_of_its_own() {
    let storage = "var/lib/containers/storage/overlay-containers";
    let (lasting, volatile) =
        (format!("{storage}/containers.json"), format!("{storage}/volatile-containers.json"));
    let of_it = r#"[{"id":"ID","names":["job"],"image":"dd44",
        "metadata":"{\"image-name\":\"docker.io/library/alpine:3\",\"image-id\":\"dd44\",\"name\":\"job\"}",
        "created":"2026-01-02T03:04:05Z","flags":{"MountLabel":"","ProcessLabel":""}}]"#;
    for files in [&[(lasting.as_str(), "[]"), (&volatile, of_it)][..], &[(&volatile, of_it)]] {
        let found = Host::new(files).find(Some(Runtime::Podman), None, ID).unwrap();
        assert_eq!(found.name.as_deref(), Some("job"));
        assert_eq!(found.image.as_deref(), Some("docker.io/library/alpine:3"));
    }
    let host = Host::new(&[(&lasting, "["), (&volatile, "[]")]);
    assert_eq!(host.find(Some(Runtime::Podman), None, ID), Err(Missing::Unreadable));
}

#[test]
fn a_list_of_many_containers_is_read_to_its_end() {
    let other = format!(r#"{{"id":"other","metadata":"{}"}},"#, "x".repeat(1 << 20));
    let list = format!("[{}{{\"id\":\"ID\",\"names\":[\"last\"]}}]", other.repeat(5));
    let host = Host::new(&[("var/lib/containers/storage/overlay-containers/containers.json", &list)]);
    let found = host.find(Some(Runtime::Podman), None, ID).unwrap();
    assert_eq!(found.name.as_deref(), Some("last"));
}

#[test]
fn the_first_process_tells_the_mounts_unless_its_number_is_anothers() {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = ("proc/4242/ns/mnt", "");
    let bundle = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/init.pid";
    let storage = "run/containers/storage/overlay-containers/ID/userdata/pidfile";
    for group in ["0::/docker/ID\n", "0::/x.slice/docker-ID.scope\n", "1:a:/\n0::/x/ID/init\n"] {
        let process = ("proc/4242/cgroup", group);
        let host = Host::new(&[
            DOCKER[0],
            CRI[0],
            CRIO[0],
            (bundle, "4242"),
            (storage, "4242\n"),
            namespace,
            process,
        ]);
        let expected = std::fs::metadata(host.path("proc/4242/ns/mnt")).unwrap().ino();
        for (runtime, of) in
            [(Runtime::Docker, None), (Runtime::Containerd, Some("k8s.io")), (Runtime::Podman, None)]
        {
            let found = host.find(Some(runtime), of, ID).unwrap();
            assert_eq!(found.mnt_ns.map(u64::from), Some(expected), "{runtime:?} {group}");
            assert!(found.is_whole());
        }
    }
    let another = Host::new(&[DOCKER[0], namespace, ("proc/4242/cgroup", "0::/system.slice/x.service\n")]);
    assert_eq!(another.find(Some(Runtime::Docker), None, ID).unwrap().mnt_ns, None);
}

#[test]
fn a_containerd_that_does_not_answer_is_told_of_and_left_alone() {
    let host = Host::new(&CRI);
    let listener =
        std::os::unix::net::UnixListener::bind(host.path("run/containerd/containerd.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let roots = Roots { host: host.0.path().to_owned(), containerd: Vec::new() };
    let mut containers = Containers::new(roots);
    let namespace = Some("k8s.io".to_owned());
    let wanted = ContainerRef { runtime: Some(Runtime::Containerd), namespace, id: ID.to_owned() };
    for _ in 0..3 {
        let found = containers.find(&wanted).unwrap();
        assert_eq!((found.name.as_deref(), found.missing), (Some("app"), Some(Missing::Unreadable)));
        assert!(!found.is_whole());
    }
    assert!(listener.accept().is_ok());
    assert!(listener.accept().is_err(), "it is asked once");
}
