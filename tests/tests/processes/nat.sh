#!/bin/sh
# Namespaces of the network: a relay `r`, and hosts `a`, `b`, … each behind a NAT `na`, `nb`, … of its own, all on one bridge in `w`.
#   nat.sh up PREFIX NAT-OF-A NAT-OF-B … | nat.sh map PREFIX HOST PORT-OUTSIDE PORT-INSIDE | nat.sh down PREFIX
# A NAT is one of
#   none       there is none: the host stands on the bridge itself
#   full       keeps ports, and lets everybody in (endpoint-independent filtering)
#   address    keeps ports, and lets in whom something was sent to, from any port (address-dependent filtering)
#   home       keeps ports, and lets in what was asked for (address- and port-dependent filtering)
#   remap      as home, and gives port 4001 another number for everybody, over TCP and UDP
#   symmetric  as home, and gives every connection another port
#   no-udp     as home, and lets no UDP through
# Terms and kinds: RFC 4787, sections 4 and 5.
set -e
P=$2

down() {
    ip netns list | cut -d' ' -f1 | grep "^$P" | while read -r n; do ip netns del "$n" || true; done
}

# A pair of interfaces: namespace and name of one end, then of the other.
link() {
    ip -n "$P$1" link add name "$2" type veth peer name "$4" netns "$P$3"
    ip -n "$P$1" link set "$2" up
    ip -n "$P$3" link set "$4" up
}

# The rules of a NAT: its namespace, its kind, its outer address, the host behind it.
rules() {
    to="masquerade"
    first=""
    onwards="iif wan ct state established,related accept; iif lan accept; drop;"
    case $2 in
        full) first="iif wan ip daddr $3 dnat to $4;" onwards="accept;" ;;
        address) first="iif wan ip saddr @sent-to dnat to $4;" onwards="accept;" ;;
        home) ;;
        no-udp) onwards="meta l4proto udp drop; $onwards" ;;
        remap) to="tcp sport 4001 snat to $3:33611; oif wan udp sport 4001 snat to $3:33611; oif wan masquerade" ;;
        symmetric) to="masquerade fully-random" ;;
        *)
            echo "no such NAT: $2" >&2
            exit 2
            ;;
    esac
    ip netns exec "$P$1" sysctl -qw net.ipv4.ip_forward=1
    ip netns exec "$P$1" nft -f - <<X
table ip nat {
    set sent-to { type ipv4_addr; flags dynamic, timeout; timeout 5m; }
    chain pre { type nat hook prerouting priority -100; $first }
    chain post { type nat hook postrouting priority 100; oif wan update @sent-to { ip daddr }; oif wan $to; }
}
table ip filter {
    chain onwards { type filter hook forward priority 0; $onwards }
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
shift 2

# A namespace with its loopback.
space() {
    ip netns add "$P$1"
    ip -n "$P$1" link set lo up
}

# An interface on the bridge: its namespace, its name, its address.
outside() {
    link w "to-$1" "$1" "$2"
    ip -n "${P}w" link set "to-$1" master br0
    ip -n "$P$1" addr add "203.0.113.$3/24" dev "$2"
}

space w
ip -n "${P}w" link add name br0 type bridge
ip -n "${P}w" link set br0 up
space r
outside r wan 10
i=0
for kind; do
    i=$((i + 1))
    host=$(echo abcdefghijklmnop | cut -c$i)
    space "$host"
    if [ "$kind" = none ]; then
        outside "$host" eth $((20 + i))
        continue
    fi
    space "n$host"
    outside "n$host" wan $((20 + i))
    link "n$host" lan "$host" eth
    ip -n "${P}n$host" addr add "10.77.$i.1/24" dev lan
    ip -n "$P$host" addr add "10.77.$i.2/24" dev eth
    ip -n "$P$host" route add default via "10.77.$i.1"
    rules "n$host" "$kind" "203.0.113.$((20 + i))" "10.77.$i.2"
done
