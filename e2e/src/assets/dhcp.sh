#!/bin/busybox sh
# udhcpc calls this with the lease in the environment.
busybox=/bin/busybox
case $1 in
bound | renew)
    $busybox ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}"
    [ -z "$router" ] || $busybox route add default gw "${router%% *}"
    ;;
esac
