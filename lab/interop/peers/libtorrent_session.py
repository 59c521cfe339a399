"""A libtorrent session of many torrents. The one argument is a JSON object: listen (address:port), torrents (a file of torrents, each
after its length in four bytes, little endian), folder (where all content is), resume (a file of resume data, packed in the same way),
make (write that file and end, instead of reading it).
Prints one JSON object a line: {"event": "empty"} before the torrents are added, two seconds later {"event": "ready", "start_s": ...}
when all of them seed; then it stays until it is ended."""

import gc
import json
import struct
import sys
import time

import libtorrent as lt

# The session's own defaults, but for what would look for peers outside, refuse peers on one machine, or let seeds wait.
SETTINGS = {
    "user_agent": "libtorrent/" + lt.__version__,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "allow_multiple_connections_per_ip": True,
    "alert_queue_size": 100_000,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification,
}


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def packed(path):
    with open(path, "rb") as file:
        while length := file.read(4):
            yield file.read(struct.unpack("<I", length)[0])


def add_all(session, parameters):
    count = 0
    for one in parameters:
        one.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        session.async_add_torrent(one)
        count += 1
    checked = 0
    while checked < count:
        session.wait_for_alert(100)
        for alert in session.pop_alerts():
            checked += isinstance(alert, lt.torrent_checked_alert)
            if alert.category() & lt.alert.category_t.error_notification:
                say("alert", message=alert.message())


def from_torrents(order):
    for torrent in packed(order["torrents"]):
        one = lt.add_torrent_params()
        one.ti = lt.torrent_info(lt.bdecode(torrent))
        one.save_path = order["folder"]
        yield one


def save(session, path):
    with open(path, "wb") as file:
        for handle in session.get_torrents():
            handle.save_resume_data(lt.save_resume_flags_t.save_info_dict)
            data = None
            while data is None:
                session.wait_for_alert(1000)
                for alert in session.pop_alerts():
                    if isinstance(alert, lt.save_resume_data_alert):
                        data = lt.write_resume_data_buf(alert.params)
            file.write(struct.pack("<I", len(data)) + data)


def main():
    order = json.loads(sys.argv[1])
    session = lt.session({**SETTINGS, "listen_interfaces": order["listen"]})
    if order["make"]:
        add_all(session, from_torrents(order))
        save(session, order["resume"])
        return
    say("empty")
    time.sleep(2)
    begin = time.monotonic()
    add_all(session, (lt.read_resume_data(data) for data in packed(order["resume"])))
    start_s = time.monotonic() - begin
    states = [handle.status().state for handle in session.get_torrents()]
    assert all(state == lt.torrent_status.seeding for state in states), set(states)
    del states
    gc.collect()
    say("ready", start_s=start_s)
    while True:
        time.sleep(3600)


main()
