// A webtorrent client. The one argument is a JSON object: torrent (a file or a magnet link), folder, port, seed, connect (addresses),
// secure (its level of encryption), exchange (PEX), router (a DHT contact or null), download_limit (bytes a second, -1: none), modules (the folder node_modules). Prints one JSON object a line: {"event": "ready"},
// {"event": "complete"}, warnings and errors.
const order = JSON.parse(process.argv[2])
const { default: WebTorrent } = await import(`${order.modules}/webtorrent/index.js`)
const say = (event, more) => console.log(JSON.stringify({ event, ...more }))

const client = new WebTorrent({
  torrentPort: order.port,
  utp: false,
  utPex: order.exchange,
  secure: order.secure,
  dht: order.router ? { bootstrap: [order.router] } : false,
  downloadLimit: order.download_limit,
  lsd: false,
  natUpnp: false,
  natPmp: false
})
client.on('error', error => { say('error', { message: String(error) }); process.exit(1) })

const torrent = client.add(order.torrent, { path: order.folder })
torrent.on('warning', warning => say('warning', { message: String(warning) }))
torrent.on('wire', (wire, address) => say('wire', { address, type: wire.type }))
torrent.on('ready', () => {
  for (const peer of order.connect) torrent.addPeer(peer)
  if (order.seed) say('ready', { progress: torrent.progress })
})
torrent.on('done', () => say(order.seed ? 'checked' : 'complete'))
process.on('SIGTERM', () => client.destroy(() => process.exit(0)))
