defmodule Koma.Application do
  @moduledoc false
  # Starts the gateway from the application's environment. With `start: false` (tests, tools that
  # only need the modules) nothing runs.
  #
  # Once its supervisor has given up, nothing here would ever serve again. So the BEAM ends then, with
  # a status by which whoever watches it knows that it is to be started again.
  use Application

  require Logger

  alias Koma.Options.Environment

  @preloaded [:koma, :cowboy, :cowlib, :ranch, :logger, :elixir, :kernel, :stdlib]

  @impl Application
  def start(_type, _arguments) do
    {start?, environment} = :koma |> Application.get_all_env() |> Keyword.pop(:start, true)

    environment = Keyword.drop(environment, [:included_applications])

    started =
      if start?,
        do: environment |> Koma.Options.new!() |> start(),
        else: Supervisor.start_link([], strategy: :one_for_one)

    with {:ok, supervisor} <- started, do: {:ok, supervisor, supervisor}
  end

  # Before an orderly stop the supervisor still lives.
  @impl Application
  def prep_stop(supervisor), do: if(Process.alive?(supervisor), do: :asked_to, else: :gave_up)

  @impl Application
  def stop(:asked_to), do: :ok

  def stop(:gave_up) do
    Logger.critical("Koma gives up, as its parts crash again and again; the server ends now")
    System.stop(1)
  end

  # An operator reads this: no report of a crash around it.
  defp start(options) do
    if :code.get_mode() == :interactive, do: load_modules()
    Enum.each(Environment.misspelt(System.get_env()), &Logger.warning/1)

    with :ok <- Koma.Access.check(options),
         {:error, reason} <- Koma.Supervisor.start_link(options),
         do: {:error, refusal(reason)}
  end

  # A module that is first needed when no file descriptor is free could not be loaded then. A release
  # has them all loaded when it boots.
  defp load_modules do
    modules = for application <- @preloaded, do: Application.spec(application, :modules) || []
    _all_or_some = :code.ensure_modules_loaded(Enum.concat(modules))
    :ok
  end

  # What the part said that could not start, without the names of those around it.
  defp refusal({:shutdown, {:failed_to_start_child, _part, reason}}), do: refusal(reason)
  defp refusal(reason), do: reason
end
