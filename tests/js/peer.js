// A js-libp2p peer that meets a node and prints what it sees, one JSON object a line.
//
//   node peer.js MULTIADDR CID DHT_KEY_HEX
//
// MULTIADDR is over TCP, or over QUIC where it says so. CID is the root of a package that the node provides, DHT_KEY_HEX the key of that package's head. After the line
// {"step":"subscribed"} the peer waits for one announcement on the packages topic, prints it, and ends.
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { quic } from '@chainsafe/libp2p-quic'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@chainsafe/libp2p-yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'

const TOPIC = '/ggen/packages/v1'
const hex = bytes => Buffer.from(bytes).toString('hex')
const say = (step, fields) => console.log(JSON.stringify({ step, ...fields }))

const [address, root, key] = process.argv.slice(2)
if (key === undefined) {
  console.error('usage: node peer.js MULTIADDR CID DHT_KEY_HEX')
  process.exit(2)
}
const signal = AbortSignal.timeout(60_000)
signal.addEventListener('abort', () => {
  console.error('the time ran out')
  process.exit(1)
})

const peer = await createLibp2p({
  addresses: { listen: [address.includes('/quic-v1') ? '/ip4/127.0.0.1/udp/0/quic-v1' : '/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp(), quic()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionMonitor: { enabled: false },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol: '/ggen/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper }),
    pubsub: gossipsub({ allowPublishToZeroTopicPeers: true })
  }
})
const identified = new Promise(resolve => {
  peer.addEventListener('peer:identify', event => resolve(event.detail), { once: true })
})
const announced = new Promise(resolve => {
  peer.services.pubsub.addEventListener('message', event => resolve(event.detail), { once: true })
})

const connection = await peer.dial(multiaddr(address), { signal })
say('connected', { peer: connection.remotePeer.toString(), encryption: connection.encryption, muxer: connection.multiplexer, address: connection.remoteAddr.toString() })
const info = await identified
say('identified', { protocolVersion: info.protocolVersion, agentVersion: info.agentVersion, protocols: info.protocols })

const dht = peer.services.dht
// The routing table takes the node in once Identify has named the Kademlia protocol.
let closest = []
while (closest.length === 0) {
  signal.throwIfAborted()
  for await (const event of dht.getClosestPeers(connection.remotePeer.toMultihash().bytes, { signal })) {
    if (event.name === 'PEER_RESPONSE') closest.push(event.from.toString())
  }
}
say('closest', { peers: closest })
const providers = []
for await (const event of dht.findProviders(CID.parse(root), { signal })) {
  if (event.name === 'PROVIDER') providers.push(...event.providers.map(provider => provider.id.toString()))
}
say('providers', { peers: providers })
// js-libp2p's own get() takes only keys with a namespace, such as /pk/…; ours are hashes. So one message, and its answer.
const request = { type: 'GET_VALUE', key: Buffer.from(key, 'hex') }
const path = { index: 0, queued: 0, running: 0, total: 1 }
for await (const event of dht.network.sendRequest(connection.remotePeer, request, { signal, path })) {
  if (event.name === 'PEER_RESPONSE' && event.record != null) {
    say('value', { hex: hex(event.record.value), from: event.from.toString() })
  }
}

// Not earlier: the DHT pings a new peer before it takes it in, and rust-libp2p answers one ping stream at a time, the latest.
say('pinged', { milliseconds: await peer.services.ping.ping(connection.remotePeer, { signal }) })

peer.services.pubsub.subscribe(TOPIC)
while (!peer.services.pubsub.getSubscribers(TOPIC).some(it => it.equals(connection.remotePeer))) {
  signal.throwIfAborted()
  await new Promise(resolve => setTimeout(resolve, 20))
}
say('subscribed', {})
const message = await announced
say('announcement', { topic: message.topic, hex: hex(message.data), signed: message.type, from: message.from?.toString() })
await peer.stop()
process.exit(0)
