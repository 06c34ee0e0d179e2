#!/bin/sh
# One boot of the board: in a mount namespace of its own, the recorded trees over the machine's, the files that answer
# with an error over those, and then its server. FOLDER/errors.list has their paths, a line each.
# Usage: unshare --mount --propagation unchanged sh -eu boot.sh FOLDER PROGRAM...
folder=$1
shift
# Nothing mounted here may show outside. Where the test runs in a chroot, whose root is no mount of its own, the
# namespace's real root is found by joining it once more.
mount --make-rprivate / 2>/dev/null || nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
cp -an /etc/. "$folder/root/etc" # what is recorded stays
n=0
while read -r path; do
    mount --bind "$folder/errors/$n" "$folder/root$path"
    n=$((n + 1))
done <"$folder/errors.list"
for top in etc var/lib sys; do
    mount --rbind "$folder/root/$top" "/$top"
done
exec "$@"
