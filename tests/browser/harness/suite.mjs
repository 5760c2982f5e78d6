// What the tests of one process share: servers that are started when the first test asks for them, and the browser.
import { after } from "node:test"
import { closeBrowser } from "./browser.mjs"
import { Server } from "./server.mjs"

const servers = new Map()

after(async () => {
  await closeBrowser()
  await Promise.allSettled([...servers.values()].map(async (starting) => (await starting).stop()))
})

// The server of this name, ready; `environment` counts when it is started.
export function server(name, environment) {
  if (!servers.has(name)) servers.set(name, new Server(environment).start().then((started) => started.ready()))
  return servers.get(name)
}

// The three real families with their small checkpoints.
export const fullServer = () => server("full", { KOMA_MODELS: "all" })

// The toy family alone: starts in seconds. A reload takes as long as it takes.
export const toyServer = () => server("toy", { KOMA_MODELS: "toy", KOMA_ABSENCE_MS: "60000" })
