// A real Koma server as a child process: started on a free port, killed, started again on the same one.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { fileURLToPath } from "node:url"

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url))
export const PATIENCE = 180_000 // ms for whatever may take long on a busy machine, a start with the loading of the models included
const POLL = 100 // ms between two looks at what has no event: a file of another process, a port

// No server outlives its tests, however they end.
const groups = new Set()
process.on("exit", () => groups.forEach((group) => signal(group, "SIGKILL")))
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => process.exit(1))

export class Server {
  // `environment` holds KOMA_* variables (config/runtime.exs).
  constructor(environment) {
    this.folder = mkdtempSync(join(tmpdir(), "koma-browser-"))
    this.environment = environment
    this.port = 0
  }

  get url() {
    return `http://127.0.0.1:${this.port}`
  }

  get log() {
    return readFileSync(join(this.folder, "log"), "utf8")
  }

  async start() {
    const portFile = join(this.folder, "port")
    rmSync(portFile, { force: true })
    this.process = spawn("mix", ["run", "--no-halt"], {
      cwd: ROOT,
      detached: true, // a process group of its own, so that the whole of it can be killed
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PYTHONPATH: join(ROOT, "python_nodes"),
        HF_HUB_OFFLINE: "1",
        OMP_NUM_THREADS: "1",
        KOMA_DATA: join(this.folder, "data"),
        ...this.environment,
        KOMA_PORT: String(this.port),
        KOMA_PORT_FILE: portFile,
      },
    })
    groups.add(this.process.pid)
    const log = createWriteStream(join(this.folder, "log"), { flags: "a" })
    this.process.stdout.pipe(log, { end: false })
    this.process.stderr.pipe(log, { end: false })
    await this.#until("listen", () => readPort(portFile))
    this.port = readPort(portFile)
    return this
  }

  async ready() {
    await this.#until("become ready", async () => {
      const answer = await fetch(`${this.url}/health/ready`).catch(() => null)
      return answer?.ok
    })
    return this
  }

  // SIGKILL to the BEAM; the model nodes end with it.
  async kill() {
    await this.#end("SIGKILL")
  }

  async stop() {
    if (this.process) await this.#end("SIGTERM")
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }

  // Process ids of the model nodes of one family; of all without one.
  modelNodes() {
    return processes().filter(({ pid, command }) => command.includes("koma.port") && descends(pid, this.process.pid))
  }

  async #end(name) {
    const { process: child } = this
    this.process = null
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit")
      signal(child.pid, name)
      await ended
    }
    groups.delete(child.pid)
  }

  async #until(what, done) {
    const end = Date.now() + PATIENCE
    while (!(await done())) {
      const ended = this.process.exitCode !== null
      if (ended || Date.now() > end) throw new Error(`the server did not ${what}:\n${this.log.slice(-4000)}`)
      await pause(POLL)
    }
  }
}

function signal(group, name) {
  try {
    process.kill(-group, name)
  } catch {
    // ended already
  }
}

function readPort(file) {
  try {
    return Number(readFileSync(file, "utf8"))
  } catch {
    return 0
  }
}

function processes() {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), command: read(`/proc/${name}/cmdline`) }))
}

function descends(pid, ancestor) {
  for (let at = pid; at > 1; at = parent(at)) if (at === ancestor) return true
  return false
}

// The name of the process stands in parentheses and may hold anything.
function parent(pid) {
  const stat = read(`/proc/${pid}/stat`)
  return Number(stat.slice(stat.lastIndexOf(")") + 1).trim().split(" ")[1] || 0)
}

function read(path) {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return "" // ended meanwhile
  }
}
