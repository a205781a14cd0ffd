variable "architecture" {
  description = "Processor architecture for which the layer was built: x86_64 or arm64."
  type        = string

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture = ${var.architecture}: must be x86_64 or arm64."
  }
}

variable "bucket" {
  description = "Name of the versioned bucket for the zip."
  type        = string
}

variable "name" {
  description = "Name of the layer."
  type        = string
}

variable "python" {
  description = "Python version for which the layer was built: 3.13 or 3.14."
  type        = string

  validation {
    condition     = contains(["3.13", "3.14"], var.python)
    error_message = "python = ${var.python}: must be 3.13 or 3.14."
  }
}

variable "zip" {
  description = "Path of the zip from `make layer`; its manifest (.json) must be next to it."
  type        = string

  validation {
    condition     = fileexists(var.zip)
    error_message = "zip = ${var.zip}: the file does not exist; run make layer."
  }

  validation {
    condition = !fileexists(var.zip) || try(
      jsondecode(file(replace(var.zip, "/\\.zip$/", ".json"))).sha256 == filesha256(var.zip), false
    )
    error_message = "${var.zip} is not the zip that make layer verified (its manifest is missing or has another sha256); run make layer."
  }

  validation {
    # AWS's limit for a function with its layers; the function itself is below 2 MB.
    condition     = try(jsondecode(file(replace(var.zip, "/\\.zip$/", ".json"))).unpacked_bytes, 0) <= 260000000
    error_message = "${var.zip} is too large for Lambda: it has more than 260,000,000 bytes unpacked, of 262,144,000 allowed with the function. Shorten layer/requirements.txt or extend layer/prune.toml, and run make layer."
  }
}
