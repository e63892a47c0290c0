// js-libp2p and a relay, one JSON object a line.
//
//   node relay.js through MULTIADDR    one peer is reached through the node at that address, and another one pings it there
//   node relay.js serve MULTIADDR      relays for others, listening there, until the standard input ends
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { quic } from '@chainsafe/libp2p-quic'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@chainsafe/libp2p-yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const say = (step, fields) => console.log(JSON.stringify({ step, ...fields }))
const [verb, address] = process.argv.slice(2)
if (!['through', 'serve'].includes(verb) || address === undefined) {
  console.error('usage: node relay.js through MULTIADDR | node relay.js serve MULTIADDR')
  process.exit(2)
}
const signal = AbortSignal.timeout(60_000)
signal.addEventListener('abort', () => {
  console.error('the time ran out')
  process.exit(1)
})

const peer = (listen, services) => createLibp2p({
  addresses: { listen },
  transports: [tcp(), quic(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionMonitor: { enabled: false },
  services: { identify: identify(), ping: ping(), ...services }
})

if (verb === 'serve') {
  const relay = await peer([address], { relay: circuitRelayServer() })
  say('listening', { address: relay.getMultiaddrs()[0].toString() })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.on('end', resolve))
  await relay.stop()
  process.exit(0)
}

const hidden = await peer([`${address}/p2p-circuit`])
const reached = () => hidden.getMultiaddrs().find(it => it.toString().includes('/p2p-circuit/'))
while (reached() === undefined) {
  signal.throwIfAborted()
  await new Promise(resolve => setTimeout(resolve, 50))
}
say('reserved', { address: reached().toString() })
const other = await peer([])
const connection = await other.dial(multiaddr(reached().toString()), { signal })
const milliseconds = await other.services.ping.ping(connection.remotePeer, { signal })
say('pinged', { milliseconds, peer: connection.remotePeer.toString(), limited: connection.limits !== undefined })
process.exit(0)
