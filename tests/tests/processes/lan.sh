#!/bin/sh
# Namespaces of the network: the hosts `a`, `b` and `c` (10.78.0.1, .2 and .3) on one bridge in `w`, as in an office without a router.
#   lan.sh up PREFIX | lan.sh down PREFIX
set -e
P=$2

down() {
    for n in w a b c; do ip netns del "$P$n" 2>/dev/null || true; done
}

if [ "$1" = down ]; then
    down
    exit
fi
for n in w a b c; do
    ip netns add "$P$n"
    ip -n "$P$n" link set lo up
done
ip -n "${P}w" link add name br0 type bridge mcast_snooping 0
ip -n "${P}w" link set br0 up
for n in 1:a 2:b 3:c; do
    host=${n#*:}
    ip -n "${P}w" link add name "to-$host" type veth peer name eth netns "$P$host"
    ip -n "${P}w" link set "to-$host" master br0
    ip -n "${P}w" link set "to-$host" up
    ip -n "$P$host" addr add "10.78.0.${n%:*}/24" dev eth
    ip -n "$P$host" link set eth up
done
