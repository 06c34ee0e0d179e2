#!/bin/sh
# One boot of the board: in a mount namespace of its own, the recorded trees over the machine's, and then its server.
# Usage: unshare --mount sh -eu boot.sh FOLDER PROGRAM...
folder=$1
shift
mount --make-rprivate /
cp -an /etc/. "$folder/root/etc" # what is recorded stays
for top in etc var/lib sys; do
    mount --rbind "$folder/root/$top" "/$top"
done
exec "$@"
