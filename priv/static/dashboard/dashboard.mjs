// Joins the page to the server, with the official client; what it shows comes from there.
import { Socket } from "/static/vendor/phoenix.mjs"
import { LiveSocket } from "/static/vendor/phoenix_live_view.esm.js"

const token = document.querySelector("meta[name='csrf-token']").content
const live = new LiveSocket("/live", Socket, { params: { _csrf_token: token } })

// The server sends the next change when this one is in the page, so that a slow browser never falls behind.
addEventListener("phx:seen", () => live.main?.channel.push("seen", {}))

live.connect()
