#!/bin/busybox sh
# The whole system: load the network card's driver, get an address, fetch the
# URL given as config=URL, print it, power off.
busybox=/bin/busybox
for folder in proc sysfs; do
    $busybox mount -t $folder $folder /${folder%fs}
done
$busybox mount -t devtmpfs dev /dev
# The kernel must not write into the middle of a config.
$busybox dmesg -n 1
for module in /modules/*; do
    $busybox insmod "$module"
done
$busybox ifconfig lo up
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -e /sys/class/net/eth0 ] && break
    $busybox sleep 1
done
$busybox ifconfig eth0 up
$busybox udhcpc -q -n -t 10 -T 1 -i eth0 -s /dhcp

for word in $($busybox cat /proc/cmdline); do
    case $word in
    config=*)
        url=${word#config=}
        for _ in 1 2 3; do
            # Without -T, with which the wget of some static builds crashes.
            if $busybox wget -q -O /config "$url"; then
                echo "=== config begins"
                $busybox cat /config
                echo
                echo "=== config ends"
                break
            fi
            $busybox sleep 1
        done
        [ -e /config ] || echo "=== config could not be fetched"
        ;;
    esac
done
# The serial line needs a moment for the last characters.
$busybox sleep 1
$busybox poweroff -f
