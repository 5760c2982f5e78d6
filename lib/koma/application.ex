defmodule Koma.Application do
  @moduledoc false
  # Starts the gateway from the application's environment. With `start: false` (tests, tools that
  # only need the modules) nothing runs.
  use Application

  @impl Application
  def start(_type, _arguments) do
    {start?, environment} = :koma |> Application.get_all_env() |> Keyword.pop(:start, true)

    if start?,
      do: environment |> Keyword.drop([:included_applications]) |> Koma.Options.new!() |> start(),
      else: Supervisor.start_link([], strategy: :one_for_one)
  end

  # An operator reads this: no report of a crash around it.
  defp start(options) do
    with :ok <- Koma.Access.check(options),
         {:error, reason} <- Koma.Supervisor.start_link(options),
         do: {:error, refusal(reason)}
  end

  # What the part said that could not start, without the names of those around it.
  defp refusal({:shutdown, {:failed_to_start_child, _part, reason}}), do: refusal(reason)
  defp refusal(reason), do: reason
end
