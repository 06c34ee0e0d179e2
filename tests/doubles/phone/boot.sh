# One boot of the phone: runs as process 1 of new pid, time and mount namespaces, and becomes init.py.
# Usage: sh -eu boot.sh FOLDER PYTHON INIT
folder=$1
mount -t proc -o nosuid,nodev,noexec proc "$folder/root/proc"
cd "$folder/proc"
find . -type f | while read -r file; do
    [ ! -e "$folder/root/proc/$file" ] || mount --bind "$file" "$folder/root/proc/$file"
done
cd /
exec "$2" -I -S "$3" "$folder"
