# The battery service's commands, of `dumpsys battery` and `cmd battery` alike. What has been set stands still.
FROZEN=$BOX/state/battery

freeze() {
    [[ -f $FROZEN ]] || sed "1a\\  (UPDATES STOPPED -- use 'reset' to restart)" $BOX/live/battery >$FROZEN
}

battery() {
    case $1 in
    '') [[ -f $FROZEN ]] && cat $FROZEN || cat $BOX/live/battery ;;
    get)
        [[ $2 == -f ]] && shift
        if [[ ! -f $BOX/live/get/$2 ]]; then
            print "Unknown get option: $2"
            exit 255
        fi
        cat "$BOX/live/get/$2" ;;
    reset) rm -f $FROZEN ;;
    unplug)
        freeze
        sed -i 's/ powered: true/ powered: false/' $FROZEN ;;
    set)
        case $2 in
        ac) line='AC powered' ;; usb) line='USB powered' ;; wireless) line='Wireless powered' ;;
        temp) line=temperature ;; counter) line='Charge counter' ;; *) line=$2 ;;
        esac
        freeze
        sed -i "s/^  $line: .*/  $line: $3/" $FROZEN ;;
    esac
}
