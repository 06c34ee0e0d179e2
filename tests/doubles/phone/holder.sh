# What outlives a phone's reboots: its storage and its network. Runs in mount, network, uts and ipc namespaces
# of its own, and keeps them for as long as its input is open; then everything mounted here is gone by itself.
# Usage: sh -eu holder.sh FOLDER DISK_BYTES
# Nothing mounted here may show outside. Where the test runs in a chroot, whose root is no mount of its own, the
# namespace's real root is found by joining it once more.
mount --make-rprivate / 2>/dev/null || nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
root=$1/root
mount -t tmpfs -o mode=755 phone "$root"
cd "$root"
mkdir -p usr/lib usr/lib64 proc sys system/bin system/etc etc vendor dev/pts dev/shm mnt/box sdcard storage/emulated \
    data/local/tmp data/misc/perfetto-traces data/misc/perfetto-configs apex
ln -s usr/lib lib
ln -s usr/lib64 lib64
ln -s system/bin bin
ln -s /sdcard storage/emulated/0
mount --bind -o ro,nosuid /usr/lib usr/lib
[ ! -d /usr/lib64 ] || mount --bind -o ro,nosuid /usr/lib64 usr/lib64
mount -t tmpfs -o "nosuid,nodev,uid=2000,gid=2000,mode=771,size=$2" disk data/local/tmp
mount -t tmpfs -o "nosuid,nodev,noexec,uid=2000,gid=2000,mode=770,size=$2" sdcard sdcard
chmod 771 data
chmod 751 data/local
chown 0:2000 data/misc/perfetto-traces data/misc/perfetto-configs
chmod 773 data/misc/perfetto-traces
chmod 775 data/misc/perfetto-configs

mount -t tmpfs -o nosuid,noexec,mode=755 dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=2000 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $device
    mknod -m 666 "dev/$1" c "$2" "$3"
done

echo localhost >/proc/sys/kernel/hostname
ip link set lo up
echo ready
exec cat >/dev/null
