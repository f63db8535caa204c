# Makes this mount namespace a room: a copy-on-write view of a Debian root, without a way to the machine's own files.
# It is the first process of the room's other namespaces, and ends when its standard input does, and all with it.
# Arguments: an empty folder, the Debian root, the folder of scripts, the Rust toolchain's folder or an empty text.
set -eu
scratch=$1 lower=$2 inside=$3 toolchain=$4
# The host's /proc is still mounted here, so this is the id outside.
read -r outside _ < /proc/self/stat
mount --make-rprivate /
mount -t tmpfs -o size=4g,mode=0755 room "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" room "$scratch/root"
cd "$scratch/root"
mkdir -p opt/evaluate opt/rust mnt/old
mount --bind "$inside" opt/evaluate
mount -o remount,bind,ro opt/evaluate
if [ -n "$toolchain" ]; then
    mount --bind "$toolchain" opt/rust
    mount -o remount,bind,ro opt/rust
fi
mount -t proc -o nosuid,nodev,noexec proc proc
for path in sys sysrq-trigger irq bus; do
    [ -e "proc/$path" ] || continue
    mount --bind "proc/$path" "proc/$path"
    mount -o remount,bind,ro "proc/$path"
done
mount -t tmpfs -o mode=0755,nosuid dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mount -t tmpfs -o mode=0755,nosuid,nodev run run
mkdir -p run/lock run/evaluate run/sshd run/postgresql
chmod 1777 run/lock
chown --reference=var/lib/postgresql run/postgresql
pivot_root . mnt/old
cd /
umount -l /mnt/old
hostname evaluate
ip link set lo up
# bash, since it collects the children of others that end.
exec bash -c 'echo "room $0"; read -r _' "$outside"
