defmodule Koma.Dashboard.Filter do
  @moduledoc """
  Which jobs are listed: by state, family and API key. It stands in the address, so that a page that is
  loaded anew, or sent to somebody, shows the same.
  """

  alias Koma.Job.Lifecycle

  @live Enum.reject(Lifecycle.states(), &Lifecycle.terminal?/1)
  @ended Enum.filter(Lifecycle.states(), &Lifecycle.terminal?/1)
  @groups %{"live" => @live, "ended" => @ended}
  @max_length 200

  defstruct [:state, :family, :key]

  @type t :: %__MODULE__{state: String.t() | nil, family: String.t() | nil, key: String.t() | nil}

  @doc """
  The filter that a query asks for; what is no state is no filter.

      iex> Koma.Dashboard.Filter.new(%{"state" => "failed", "family" => "", "job" => "job_1"})
      %Koma.Dashboard.Filter{state: "failed"}
  """
  @spec new(%{String.t() => String.t()}) :: t
  def new(params) do
    %__MODULE__{
      state: Enum.find(states(), &(&1 == params["state"])),
      family: text(params["family"]),
      key: text(params["key"])
    }
  end

  @doc "The values that `state` may have."
  @spec states() :: [String.t()]
  def states, do: ["live", "ended" | Lifecycle.states()]

  @doc "The states that are listed."
  @spec listed(t) :: [Lifecycle.state()]
  def listed(%__MODULE__{state: nil}), do: Lifecycle.states()
  def listed(%__MODULE__{state: state}), do: Map.get(@groups, state, [state])

  @doc "Whether a job is listed, given as a map with `state`, `model` and `key`; no key is `-`."
  @spec lists?(t, map) :: boolean
  def lists?(%__MODULE__{} = filter, job) do
    job.state in listed(filter) and filter.family in [nil, job.model] and
      filter.key in [nil, job.key || "-"]
  end

  @doc "The address of the dashboard with this filter and, if one is open, a job."
  @spec url(t, job :: String.t() | nil) :: String.t()
  def url(%__MODULE__{} = filter, job) do
    query =
      for {name, value} <- [
            state: filter.state,
            family: filter.family,
            key: filter.key,
            job: job
          ],
          value != nil,
          do: {name, value}

    if query == [], do: "/dashboard", else: "/dashboard?" <> URI.encode_query(query)
  end

  defp text(text) when text in [nil, ""], do: nil
  defp text(text), do: String.slice(text, 0, @max_length)
end
