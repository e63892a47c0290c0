#!/bin/sh
# Namespaces of the network: a relay `r`, and the hosts `a` and `b` behind the NATs `na` and `nb`, all on one bridge in `w`.
#   nat.sh up PREFIX NAT-OF-A NAT-OF-B | nat.sh map PREFIX HOST PORT-OUTSIDE PORT-INSIDE | nat.sh down PREFIX
# A NAT is `home` (keeps ports, lets in what was asked for), `remap` (as home, and gives port 4001 another number for everybody, over TCP and UDP) or
# `symmetric` (gives every connection another port).
set -e
P=$2

down() {
    for n in w r na nb a b; do ip netns del "$P$n" 2>/dev/null || true; done
}

# A pair of interfaces: namespace and name of one end, then of the other.
link() {
    ip -n "$P$1" link add name "$2" type veth peer name "$4" netns "$P$3"
    ip -n "$P$1" link set "$2" up
    ip -n "$P$3" link set "$4" up
}

# The rules of a NAT: its namespace, its kind, its outer address.
rules() {
    case $2 in
        home) to="masquerade" ;;
        remap) to="tcp sport 4001 snat to $3:33611; oif wan udp sport 4001 snat to $3:33611; oif wan masquerade" ;;
        symmetric) to="masquerade fully-random" ;;
    esac
    ip netns exec "$P$1" sysctl -qw net.ipv4.ip_forward=1
    ip netns exec "$P$1" nft -f - <<X
table ip nat {
    chain post { type nat hook postrouting priority 100; oif wan $to; }
}
table ip filter {
    chain onwards { type filter hook forward priority 0; iif wan ct state established,related accept; iif lan accept; drop; }
    chain inwards { type filter hook input priority 0; iif wan ct state new drop; }
}
X
}

# Has a port of a NAT lead to the host behind it, over TCP and UDP.
map() {
    case $1 in
        a) to=10.77.1.2 ;;
        b) to=10.77.2.2 ;;
    esac
    ip netns exec "${P}n$1" nft -f - <<X
table ip mapped {
    chain pre { type nat hook prerouting priority -100; iif wan meta l4proto { tcp, udp } th dport $2 dnat to $to:$3; }
}
insert rule ip filter onwards ct status dnat accept
X
}

if [ "$1" = down ]; then
    down
    exit
fi
if [ "$1" = map ]; then
    map "$3" "$4" "$5"
    exit
fi
for n in w r na nb a b; do
    ip netns add "$P$n"
    ip -n "$P$n" link set lo up
done
ip -n "${P}w" link add name br0 type bridge
ip -n "${P}w" link set br0 up
for n in r na nb; do
    link w "to-$n" "$n" wan
    ip -n "${P}w" link set "to-$n" master br0
done
ip -n "${P}r" addr add 203.0.113.10/24 dev wan
ip -n "${P}na" addr add 203.0.113.21/24 dev wan
ip -n "${P}nb" addr add 203.0.113.22/24 dev wan
for n in 1:a 2:b; do
    host=${n#*:}
    net=10.77.${n%:*}
    link "n$host" lan "$host" eth
    ip -n "${P}n$host" addr add "$net.1/24" dev lan
    ip -n "$P$host" addr add "$net.2/24" dev eth
    ip -n "$P$host" route add default via "$net.1"
done
rules na "$3" 203.0.113.21
rules nb "$4" 203.0.113.22
