# Runs a stock llama-bench: a prefill, then a decode at that depth.
#   sh llama_bench.sh PROMPT GEN N_FILES N_ARGS (NAME PLACE)... ARG... JOB [ANYTHING...]
# Its files lie apart on the device, each by its content; llama.cpp looks for its libraries in the current folder.
set -e
prompt=$1 gen=$2 files=$3 args=$4
shift 4
eval "job=\${$((2 * files + args + 1))}"
jobs=$(dirname "$job")
rm -rf "$jobs"/llama-bench.* # of a run that was killed
folder=$(mktemp -d -p "$jobs" llama-bench.XXXXXX)
while [ "$files" -gt 0 ]; do
    ln -s "$2" "$folder/$1"
    shift 2
    files=$((files - 1))
done
# The job and what comes after it are for melt's own runners: the arguments go to the end, the rest falls away.
surplus=$(($# - args))
while [ "$args" -gt 0 ]; do
    first=$1
    shift
    set -- "$@" "$first"
    args=$((args - 1))
done
shift "$surplus"
cd "$folder"
LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ADSP_LIBRARY_PATH=$folder
export LD_LIBRARY_PATH ADSP_LIBRARY_PATH
# Many builds of llama-bench take a mask of processors and do not apply it: what starts them does.
mask='' before=''
for word in "$@"; do
    [ "$before" != -C ] || mask=$word
    before=$word
done
if [ -n "$mask" ] && ! taskset -p "$mask" $$ >/dev/null 2>&1; then
    echo "taskset cannot keep it on the processors $mask" >&2
    rm -rf "$folder"
    exit 1
fi
# The host's end is the end of this input: then the whole process group goes, and what was made here.
exec 3<&0
(
    trap '' HUP
    while read -r _; do :; done
    rm -rf "$folder"
    kill -9 0
) <&3 >/dev/null 2>&1 &
watchdog=$!

finish() {
    kill "$watchdog" 2>/dev/null || true
    rm -rf "$folder"
    case $1 in
    132 | 133 | 134 | 135 | 136 | 137 | 139 | 143) kill "-$(($1 - 128))" $$ ;; # it died by a signal, and so shall this
    esac
    exit "$1"
}

# In the background, and their errors past this shell: it would have the last word on a program that dies by a signal.
exec 4>&2 2>/dev/null
./llama-bench -p "$prompt" -n 0 "$@" </dev/null 2>&4 3<&- 4>&- &
child=$!
status=0
wait "$child" || status=$?
[ "$status" = 0 ] || finish "$status"
# The decode has the larger context, so its memory is the one to watch.
./llama-bench -p 0 -n "$gen" -d "$prompt" "$@" </dev/null 2>&4 3<&- 4>&- &
child=$!
echo "{\"melt_pid\": $child}"
wait "$child" || status=$?
finish "$status"
