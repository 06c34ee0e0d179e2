# Read by every stub tool: notes the call, and gives the answer that a test or the recording has laid down for it.
BOX=/mnt/box
tool=${0##*/}

# Words end with the unit separator and calls with the record separator, so that any word can be told.
note() {
    typeset IFS=$'\037'
    print -rn -- "$*"$'\036' >>$BOX/commands
}

# put FILE TEXT: by a new file, since the old one may be root's.
put() {
    mkdir -p "${1%/*}"
    rm -f "$1"
    print -r -- "$2" >"$1"
}

note "$tool" "$@"
answer="$tool${1+ $*}"
answer=$BOX/answers/${answer//\//%}
if [[ -d $answer ]]; then
    cat "$answer/stdout"
    cat "$answer/stderr" >&2
    exit $(<"$answer/exit")
fi
