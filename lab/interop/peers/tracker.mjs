// A bittorrent-tracker. The one argument is a JSON object: address, port, modules (the folder node_modules). Serves HTTP and UDP
// on the port, and prints one JSON object a line for each announce: its event, who made it, and what they have left.
const order = JSON.parse(process.argv[2])
const { Server } = await import(`${order.modules}/bittorrent-tracker/index.js`)
const say = (event, more) => console.log(JSON.stringify({ event, ...more }))

const server = new Server({ ws: false, stats: false, interval: 120_000 })
server.on('error', error => { say('error', { message: String(error) }); process.exit(1) })
server.on('warning', warning => say('warning', { message: String(warning) }))
for (const event of ['start', 'complete', 'stop', 'update']) {
  server.on(event, (address, params) => {
    say(event, { address, left: params.left, uploaded: params.uploaded, downloaded: params.downloaded })
  })
}
server.listen(order.port, { http: order.address, udp: order.address, udp6: '::1' }, () => say('listening'))
