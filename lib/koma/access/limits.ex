defmodule Koma.Access.Limits do
  @moduledoc """
  What one key may use; `nil` is no limit. The defaults keep one key from taking the server from
  the others; quotas (of a day, of the disk) are for an operator to set.
  """

  # name, default, unit or nil, meaning
  @limits [
    {:rate, 50, nil, "requests a second: HTTP requests, handshakes, joins and pushes"},
    {:burst, 100, nil, "requests at once after a pause"},
    {:jobs, 256, nil, "jobs that have not ended, waiting or running; and as many pipelines"},
    {:jobs_per_day, nil, nil, "jobs accepted in a day (UTC)"},
    {:bytes_per_day, nil, :bytes, "bytes uploaded in a day (UTC)"},
    {:stored_bytes, nil, :bytes,
     "bytes of uploads, results and pipelines that are stored or on their way"},
    {:uploads, 16, nil, "uploads at the same time"},
    {:sockets, 100, nil, "open WebSockets and event streams"},
    {:topics, 2_000, nil, "joined topics, of all sockets together"}
  ]

  defstruct for {name, default, _unit, _meaning} <- @limits, do: {name, default}

  @type limit :: pos_integer | nil
  @type name ::
          :rate
          | :burst
          | :jobs
          | :jobs_per_day
          | :bytes_per_day
          | :stored_bytes
          | :uploads
          | :sockets
          | :topics
  @type t :: %__MODULE__{
          rate: limit,
          burst: limit,
          jobs: limit,
          jobs_per_day: limit,
          bytes_per_day: limit,
          stored_bytes: limit,
          uploads: limit,
          sockets: limit,
          topics: limit
        }

  @doc "The limits with their defaults, units and meanings."
  @spec documented() :: [{name, default :: limit, unit :: :bytes | nil, meaning :: String.t()}]
  def documented, do: @limits
end
